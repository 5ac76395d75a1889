// Entry of the thread in which a module that was just compiled describes itself: what loops at its
// top level is ended with this thread.

import { parentPort, workerData } from "node:worker_threads";
import { lastWords } from "../runtime/last-words.js";
import type { Answer, Question } from "./description.js";
import { manifestOf } from "./manifest.js";

/** Enough for any message; a device that logs for ever is ended by the deadline. */
const LOG_CHARACTERS_MAX = 4096;

function answer(question: Question): Answer {
  let log = "";
  try {
    const manifest = manifestOf(question, (text) => {
      log = (log + text).slice(0, LOG_CHARACTERS_MAX);
    });
    return { manifest };
  } catch (cause) {
    const { message } = cause as Error;
    return { words: lastWords(new Error(message, { cause })), log };
  }
}

parentPort?.postMessage(answer(workerData as Question));
