// Entry of the thread in which a module that was just compiled describes itself: what loops at its
// top level is ended with this thread.

import { parentPort, workerData } from "node:worker_threads";
import type { Answer, Question } from "./description.js";
import { manifestOf } from "./manifest.js";

function answer({ binary, name }: Question): Answer {
  try {
    return { manifest: manifestOf(binary, name) };
  } catch (error) {
    const { message, stack = "" } = error as Error;
    return { message, stack };
  }
}

parentPort?.postMessage(answer(workerData as Question));
