// The programs that are bundled.

import { NODE_FLAGS as DEVICE_FLAGS } from "../host/sandbox/spawn.js";
import { NODE_FLAGS as WARDEN_FLAGS } from "../host/sandbox/warden.js";

/**
 * The command line, what it begins with, and what is started as a thread or a process; each with
 * the flags of its node, because V8 takes no code that it has compiled with others.
 */
export const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  "cli/main": [],
  "cli/early": [],
  "author/description-worker": [],
  "machine/io-worker": [],
  "machine/vcpu-worker": [],
  "runtime/main": DEVICE_FLAGS,
  "sandbox/warden-main": WARDEN_FLAGS,
};
