// Every goal.

import type { Goal } from "../goal.js";
import { CODE_GOALS } from "./code.js";
import { FILE_GOALS } from "./files.js";
import { IMAGE_GOALS } from "./image.js";
import { KERNEL_GOALS } from "./kernel.js";
import { MEMORY_GOALS } from "./memory.js";
import { NETWORK_GOALS } from "./network.js";
import { PROCESS_GOALS } from "./processes.js";
import { SOCKET_GOALS } from "./socket.js";

export const GOALS: readonly Goal[] = [
  ...FILE_GOALS,
  ...IMAGE_GOALS,
  ...PROCESS_GOALS,
  ...CODE_GOALS,
  ...MEMORY_GOALS,
  ...NETWORK_GOALS,
  ...SOCKET_GOALS,
  ...KERNEL_GOALS,
];
