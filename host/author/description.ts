// Has a module that was just compiled describe itself, in a thread with a deadline: an author's
// mistake must not hang the build.

import { Worker } from "node:worker_threads";
import type { Manifest } from "../sandbox/manifest.js";

/** From the start of the thread on: a device takes 1 ms, and loading what it needs 50, or more. */
const DESCRIBE_MS_MAX = 10_000;
/** Heap of the thread: a description of any length would fill it. */
const HEAP_MB_MAX = 64;

export interface Question {
  binary: Uint8Array;
  name: string;
}

/** The manifest; or how the module broke, as last-words.ts has it, and what it had logged. */
export type Answer = { manifest: Manifest } | { words: string; log: string };

/** What the module `binary` says of itself as the device `name`. */
export async function describe(question: Question): Promise<Answer> {
  const worker = new Worker(new URL("../author/description-worker.js", import.meta.url), {
    workerData: question,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX },
  });
  const { promise, resolve } = withResolvers<Answer>();
  const broken = (message: string) => resolve({ words: message, log: "" });
  const late = `the top level of the file did not end in ${DESCRIBE_MS_MAX / 1000} s`;
  let deadline: NodeJS.Timeout | undefined;
  worker.once("online", () => {
    deadline = setTimeout(() => broken(`${late}: an endless loop?`), DESCRIBE_MS_MAX);
  });
  worker.once("message", resolve);
  worker.once("error", (error) => broken(error.message));
  worker.once("exit", () => broken("the module ended the thread that it was described in"));
  try {
    return await promise;
  } finally {
    clearTimeout(deadline);
    await worker.terminate();
  }
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
