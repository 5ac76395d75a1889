// What begins before anything else is loaded: main.ts imports this file first, and in the bundle it
// is a script of its own that runs before the other one is read. One thread is enough for the
// second processor; the others start when the process of a device has.

import { dismissThreads, startThread, threadFor } from "../machine/thread.js";

/** Commands that run a machine. */
const MACHINES = ["run", "demo"];
const HELP = ["-h", "--help"];

const [command = "", ...rest] = process.argv.slice(2);

/** This process is to run a machine. */
export const isMachine = MACHINES.includes(command) && !rest.some((word) => HELP.includes(word));
if (isMachine) startThread("io");

// The bundle's other script finds the threads here.
export { dismissThreads, startThread, threadFor };
