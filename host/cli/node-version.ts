// Which Node may run machines.

import { VmmError } from "../errors.js";

/**
 * The one whose system calls and machine code the filters are for. Later ones have a ring of
 * io_uring in each event loop, which would go around a filter, and threads of V8 that open files of
 * /sys when a guest runs already; V8 compiles more, and later, in a device.
 */
const NODE = 20;

/** @throws VmmError ERR_SANDBOX when a machine cannot be confined with this version of Node */
export function checkNode(version: string): void {
  if (Number.parseInt(version, 10) === NODE) return;
  const problem = `Cannot run a machine with Node ${version}: it could not be confined`;
  throw new VmmError("ERR_SANDBOX", `${problem}\nuse Node ${NODE}`);
}
