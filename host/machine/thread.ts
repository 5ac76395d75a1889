// The threads of a VMM. Node needs longer to start one than the thread then needs to begin its
// work, so they are started before it is known what machine it will be, as soon as a processor has
// nothing better to do, and wait. What they are to do reaches them as their first message.

import { once } from "node:events";
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
  // What it would write to its own stdout and stderr, and it writes nothing, stays there: otherwise
  // Node makes streams of ours at once, which takes it 2 ms.
  const options = { workerData: word, stdout: true, stderr: true };
  return { worker: new Worker(file, options), word };
}

/** To a thread: there is nothing to do. */
const NOTHING = { nothing: true };

const waiting = new Map<ThreadProgram, Waiting>();

/** Starts a thread that somebody will need; it keeps no process alive until it is taken. */
export function startThread(program: ThreadProgram): void {
  if (waiting.has(program)) return;
  const thread = start(program);
  thread.worker.unref();
  waiting.set(program, thread);
}

/**
 * Ends the threads that nobody has taken; each ends by itself, when it has started. Node would end
 * it where it is, and koffi aborts the process when that is while it is being loaded.
 */
export async function dismissThreads(): Promise<void> {
  const all = [...waiting.keys()].map((program) => threadFor(program, NOTHING));
  await Promise.all(all.map((worker) => once(worker, "exit")));
}

/** A thread that runs `program` with `data`: one that waits already, or else a new one. */
export function threadFor(program: ThreadProgram, data: object): Worker {
  const { worker, word } = waiting.get(program) ?? start(program);
  waiting.delete(program);
  worker.ref();
  worker.postMessage(data);
  Atomics.store(word, 0, 1);
  Atomics.notify(word, 0);
  return worker;
}

/**
 * In such a thread: what it is to do, or undefined if there is nothing. Not by an event, because
 * then the messages behind the first one would be events too, and lost to whoever does not listen
 * yet.
 */
export function threadData<T extends object>(): T | undefined {
  const word = workerData as Int32Array<SharedArrayBuffer>;
  while (Atomics.load(word, 0) === 0) Atomics.wait(word, 0, 0);
  assert(parentPort !== null, "this is a thread of threadFor()");
  const received = receiveMessageOnPort(parentPort);
  assert(received !== undefined, "the first message is there before the word is set");
  const message = received.message as T | typeof NOTHING;
  return "nothing" in message ? undefined : message;
}
