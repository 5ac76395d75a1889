// A client of Node's inspector: the Chrome DevTools Protocol over a WebSocket (RFC 6455), as far as
// a debugger needs it. Every wait has a deadline, against hangs only.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import type { Socket } from "node:net";

const DEADLINE_MS = 120_000;
/** First byte of a frame: FIN, and text. */
const TEXT_FRAME = 0x81;
const MASKED = 0x80;
/** Lengths that stand for the number of bytes that the length itself has. */
const LENGTH_16 = 126;
const LENGTH_64 = 127;
const ANY_KEY = "dGhlIHNhbXBsZSBub25jZQ==";

export interface Params {
  [key: string]: unknown;
}

/** A message of either direction. */
interface Message {
  id?: number;
  method?: string;
  params?: Params;
  result?: Params;
  error?: { message: string };
}

/** One end of a conversation with one thread. */
export class Session {
  readonly #send: (text: string) => void;
  readonly #answers = new Map<number, (message: Message) => void>();
  readonly #events: Message[] = [];
  #waiting: (() => void)[] = [];
  readonly #listeners: ((message: Message) => void)[] = [];
  #next = 1;

  constructor(send: (text: string) => void) {
    this.#send = send;
  }

  receive(text: string): void {
    const message = JSON.parse(text) as Message;
    if (message.id === undefined) this.#events.push(message);
    else this.#answers.get(message.id)?.(message);
    for (const listener of this.#listeners) listener(message);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Has every message that comes from now on given to `listener`, too. */
  listen(listener: (message: Message) => void): void {
    this.#listeners.push(listener);
  }

  async ask(method: string, params: Params = {}): Promise<Params> {
    const id = this.#next++;
    const answer = new Promise<Message>((resolve) => this.#answers.set(id, resolve));
    this.#send(JSON.stringify({ id, method, params }));
    const { result, error } = await inTime(answer, method);
    if (result === undefined) throw new Error(`${method}: ${error?.message}`);
    return result;
  }

  /** The first event of this kind that has not been taken yet, and for which `wanted` holds. */
  async event(method: string, wanted: (params: Params) => boolean = () => true): Promise<Params> {
    for (;;) {
      const fits = (each: Message) => each.method === method && wanted(each.params ?? {});
      const index = this.#events.findIndex(fits);
      if (index !== -1) return this.#events.splice(index, 1)[0]!.params ?? {};
      await inTime(new Promise<void>((resolve) => this.#waiting.push(resolve)), method);
    }
  }
}

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A text frame of a client, whose mask is zero: that leaves the bytes as they are. */
function frameOf(text: string): Buffer {
  const payload = Buffer.from(text);
  const length = Buffer.alloc(10);
  length[0] = TEXT_FRAME;
  length[1] = MASKED | LENGTH_64;
  length.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([length, Buffer.alloc(4), payload]);
}

/** Calls `receive` with the text of each frame; a server's are not masked. */
function readFrames(socket: Socket, receive: (text: string) => void): void {
  let bytes = Buffer.alloc(0);
  socket.on("data", (more) => {
    bytes = Buffer.concat([bytes, more]);
    for (;;) {
      if (bytes.length < 2) return;
      const short = bytes[1]!;
      const head = short === LENGTH_16 ? 4 : short === LENGTH_64 ? 10 : 2;
      if (bytes.length < head) return;
      const length = head === 2 ? short : Number(`0x${bytes.toString("hex", 2, head)}`);
      if (bytes.length < head + length) return;
      receive(bytes.toString("utf8", head, head + length));
      bytes = bytes.subarray(head + length);
    }
  });
}

async function connect(url: string): Promise<{ socket: Socket; session: Session }> {
  const headers = {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Key": ANY_KEY,
    "Sec-WebSocket-Version": "13",
  };
  const request = http.request(url.replace(/^ws:/, "http:"), { headers });
  request.end();
  const [, socket] = (await inTime(once(request, "upgrade"), "upgrade")) as [unknown, Socket];
  const session = new Session((text) => socket.write(frameOf(text)));
  readFrames(socket, (text) => session.receive(text));
  return { socket, session };
}

/** Lets a thread begin, which stops before its first statement. */
export async function begin(session: Session): Promise<void> {
  await session.ask("Runtime.runIfWaitingForDebugger");
  await session.event("Debugger.paused");
  await session.ask("Debugger.resume");
}

/** A process of node that waits for its debugger, and its main thread. */
export class Debugged {
  readonly session: Session;
  readonly #process: ChildProcess;
  readonly #socket: Socket;

  private constructor(process: ChildProcess, socket: Socket, session: Session) {
    this.#process = process;
    this.#socket = socket;
    this.session = session;
  }

  /** Starts `node --inspect-brk` with these arguments; it stops before its first statement. */
  static async start(args: readonly string[]): Promise<Debugged> {
    const stdio: ["ignore", "ignore", "pipe"] = ["ignore", "ignore", "pipe"];
    const child = spawn(process.execPath, ["--inspect-brk=127.0.0.1:0", ...args], { stdio });
    let said = "";
    const url = new Promise<string>((resolve, reject) => {
      child.stderr!.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        const found = /listening on (ws:\S+)/.exec(said)?.[1];
        if (found !== undefined) resolve(found);
      });
      child.once("exit", () => reject(new Error(`node ended: ${said}`)));
    });
    const { socket, session } = await connect(await inTime(url, "debugger"));
    await session.ask("Debugger.enable");
    return new Debugged(child, socket, session);
  }

  /** The thread of the program `name`, which waits for its debugger; others are let go. */
  async worker(name: string): Promise<Session> {
    await this.session.ask("NodeWorker.enable", { waitForDebuggerOnStart: true });
    return new Promise((resolve) => {
      this.#forEach("NodeWorker.attachedToWorker", ({ sessionId, workerInfo }) => {
        const worker = this.#attach(sessionId);
        if ((workerInfo as { url: string }).url.includes(name)) resolve(worker);
        else void worker.ask("Runtime.runIfWaitingForDebugger");
      });
    });
  }

  #attach(sessionId: unknown): Session {
    const worker = new Session((message) => {
      void this.session.ask("NodeWorker.sendMessageToWorker", { sessionId, message });
    });
    this.#forEach("NodeWorker.receivedMessageFromWorker", (params) => {
      if (params.sessionId === sessionId) worker.receive(String(params.message));
    });
    return worker;
  }

  #forEach(method: string, take: (params: Params) => void): void {
    this.session.listen((message) => {
      if (message.method === method) take(message.params ?? {});
    });
  }

  close(): void {
    this.#socket.destroy();
    this.#process.kill("SIGKILL");
  }
}
