// Which Node may run machines.

import { VmmError } from "../errors.js";

/**
 * From Node 24 on, threads of V8 that wait for each other open a file of /sys for the first time
 * when a guest runs already (NominalCPUFrequency of Abseil), and the VMM's filter ends it for that.
 * Node 23 is not maintained.
 */
const NODE_MAX = 22;

/** @throws VmmError ERR_SANDBOX when the filter of the VMM is not for this version of Node */
export function checkNode(version: string): void {
  if (Number.parseInt(version, 10) <= NODE_MAX) return;
  const problem = `Cannot run a machine with Node ${version}: the VMM could not be confined`;
  throw new VmmError("ERR_SANDBOX", `${problem}\nuse Node 20 or 22`);
}
