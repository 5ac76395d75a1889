// The threads of a VMM. Node needs longer to start one than the thread then needs to begin its
// work, so the command line starts those of a machine first, before it has read what machine that
// will be, and they wait. What they are to do reaches them as their first message.

import { parentPort, receiveMessageOnPort, Worker, workerData } from "node:worker_threads";
import { assert } from "../errors.js";

/** Programs of threads, as files of this folder. */
const PROGRAMS = { io: "io-worker", vcpu: "vcpu-worker" } as const;
export type ThreadProgram = keyof typeof PROGRAMS;

/** A thread that waits for its first message: it sleeps until the word is not 0. */
interface Waiting {
  worker: Worker;
  word: Int32Array<SharedArrayBuffer>;
}

function start(program: ThreadProgram): Waiting {
  const word = new Int32Array(new SharedArrayBuffer(4));
  const file = new URL(`../machine/${PROGRAMS[program]}.js`, import.meta.url);
  return { worker: new Worker(file, { workerData: word }), word };
}

const waiting = new Map<ThreadProgram, Waiting>();

/** Starts a thread of each kind: every machine has an I/O worker and at least one vCPU. */
export function startThreads(): void {
  for (const program of Object.keys(PROGRAMS) as ThreadProgram[]) {
    if (!waiting.has(program)) waiting.set(program, start(program));
  }
}

/**
 * Ends the process if a thread was started that nobody has taken. Node would end it where it is,
 * and koffi aborts the process when that is while it is being loaded.
 */
export async function abandonThreads(status: number): Promise<void> {
  if (waiting.size === 0) return;
  const { _exit } = await import("../ffi/libc.js");
  process.emit("exit", status);
  _exit(status);
}

/** A thread that runs `program` with `data`: one that waits already, or else a new one. */
export function threadFor(program: ThreadProgram, data: object): Worker {
  const { worker, word } = waiting.get(program) ?? start(program);
  waiting.delete(program);
  worker.postMessage(data);
  Atomics.store(word, 0, 1);
  Atomics.notify(word, 0);
  return worker;
}

/**
 * In such a thread: what it is to do. Not by an event, because then the messages behind the first
 * one would be events too, and lost to whoever does not listen yet.
 */
export function threadData<T>(): T {
  const word = workerData as Int32Array<SharedArrayBuffer>;
  while (Atomics.load(word, 0) === 0) Atomics.wait(word, 0, 0);
  assert(parentPort !== null, "this is a thread of threadFor()");
  const received = receiveMessageOnPort(parentPort);
  assert(received !== undefined, "the first message is there before the word is set");
  return received.message as T;
}
