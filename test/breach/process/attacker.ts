// A device process whose native code is the attacker's. It starts and confines itself as the real
// runtime does, with the policy of the module it was given, and then goes for one goal.

import fs from "node:fs";
import { _exit } from "../../../host/ffi/libc.js";
import { denyEverything } from "../../../host/sandbox/landlock.js";
import { PRCTL } from "../../../host/sandbox/linux.js";
import {
  type DeviceSetup,
  lockDown,
  MODULE_FD,
  SOCKET_FD,
} from "../../../host/sandbox/lockdown.js";
import { inspectModule } from "../../../host/sandbox/manifest.js";
import { policyOf } from "../../../host/sandbox/policy.js";
import { type ImportedFunction, MEMORY_PAGES_MAX } from "../../../host/sandbox/sections.js";
import { HEADER_BYTES } from "../../../host/wire/format.js";
import { deedOf, type Order } from "./deeds.js";
import { Native, packed } from "./native.js";

/** First word of a message that carries what the attacker found, and no other. */
export const SAID = 0x5a1d;
const SAID_BYTES_MAX = 64 * 1024;
const HEARD_BYTES = 16;

/** Its own place, so that nothing a goal does to the scratch memory changes what is said. */
const voice = new Native();

/** Sends `text` behind a header, as the VMM expects of any message. */
function say(text: string): void {
  const header = new Uint8Array(HEADER_BYTES);
  new DataView(header.buffer).setUint32(0, SAID, true);
  const body = new TextEncoder().encode(text).subarray(0, SAID_BYTES_MAX);
  const message = voice.place(new Uint8Array([...header, ...body]));
  const iovec = voice.place(packed(8, message, HEADER_BYTES + body.length));
  const msghdr = voice.place(packed(8, 0, 0, iovec, 1, 0, 0, 0));
  voice.call("sendmsg", SOCKET_FD, msghdr, 0);
  voice.reset();
}

/** Waits until the VMM has sent something or gone. */
function hear(): void {
  const iovec = voice.place(packed(8, voice.room(HEARD_BYTES), HEARD_BYTES));
  voice.call("recvmsg", SOCKET_FD, voice.place(packed(8, 0, 0, iovec, 1, 0, 0, 0)), 0);
  voice.reset();
}

/** What the runtime has by the time it locks down: compiled code, and a linear memory. */
function runtime(module: Uint8Array): unknown[] {
  const compiled = new WebAssembly.Module(new Uint8Array(module));
  return [compiled, new WebAssembly.Memory({ initial: 1, maximum: MEMORY_PAGES_MAX })];
}

/** An exception must not pass for a death by the filter: Node's own last words would be that. */
function outcomeOf(deed: () => unknown): string {
  try {
    return JSON.stringify(deed());
  } catch (error) {
    return `threw ${error}`;
  }
}

/** Node's own last words would be a denied call, which nobody hears of before this is done. */
function confine(setup: DeviceSetup, imports: readonly ImportedFunction[]): void {
  try {
    lockDown(setup, imports);
  } catch (error) {
    say(String(error));
    _exit(1);
  }
}

function main(): never {
  const setup = JSON.parse(process.argv[2]!) as DeviceSetup;
  const order = JSON.parse(setup.id) as Order;
  const module = fs.readFileSync(MODULE_FD);
  fs.closeSync(MODULE_FD);
  const machine = runtime(module);
  const native = new Native();
  const deed = deedOf(order);
  const imports = order.imports ?? inspectModule(module).imports;
  const policy = policyOf({ socketFd: SOCKET_FD, grants: setup.grants, imports });
  if (order.unsignalled) native.call("prctl", PRCTL.PR_SET_PDEATHSIG, 0, 0, 0, 0);
  if (order.confine === "too late") {
    say("ready");
    hear(); // "go on", and then that nobody is there any more
    hear();
  }
  if (order.confine === "wholly" || order.confine === "too late") confine(setup, imports);
  if (order.confine === "by Landlock") {
    native.call("prctl", PRCTL.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    denyEverything();
  }
  say("ready");
  hear();
  say(outcomeOf(() => deed(native, policy)));
  hear();
  return _exit(machine.length === 0 ? 1 : 0);
}

main();
