// What begins before anything else is loaded: main.ts imports this file first.

import { startThreads } from "../machine/thread.js";

/** Commands that run a machine. */
const MACHINES = ["run", "demo"];
const HELP = ["-h", "--help"];

const [command = "", ...rest] = process.argv.slice(2);
if (MACHINES.includes(command) && !rest.some((word) => HELP.includes(word))) startThreads();
