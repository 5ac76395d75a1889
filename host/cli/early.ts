// What begins before anything else is loaded: main.ts imports this file first. One thread is enough
// for the second processor; the others start when the process of a device has.

import { startThread } from "../machine/thread.js";

/** Commands that run a machine. */
const MACHINES = ["run", "demo"];
const HELP = ["-h", "--help"];

const [command = "", ...rest] = process.argv.slice(2);
if (MACHINES.includes(command) && !rest.some((word) => HELP.includes(word))) startThread("io");
