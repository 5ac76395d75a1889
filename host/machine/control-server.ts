// Whoever connects to the control socket: same user or root, one JSON request a line, one answer a
// line, in order. It runs on the supervisor's event loop, which serves no guest: a client can keep
// it busy, but not the vCPUs and the I/O worker. What a client can make large is bounded.

import "node:cluster"; // net loads it, for a millisecond, when a server listens
import { createServer, type Server, type Socket } from "node:net";
import { peerUidOf } from "../sandbox/unix-socket.js";
import { answerTo, type Controlled, metricsOf, refusal } from "./control.js";
import { BACKLOG } from "./control-path.js";

/** Clients at once: a few of `top`, a collector of metrics, and people. */
export const CONNECTIONS_MAX = 16;
/** A request is a word or two; a client that sends more than that is not one of ours. */
export const REQUEST_CHARACTERS_MAX = 4096;
/**
 * A client that neither sends nor reads anything for so long is let go: it may have been stopped in
 * the middle of a request, or of an answer, and keeps its place from others.
 */
const IDLE_MS_MAX = 60_000;

/**
 * A client that was told all, and why, may still be saying something. Were its connection closed
 * under it, its write would fail before it has read why (EPIPE); no client keeps its place longer.
 */
const PARTING_MS_MAX = 1_000;

const ROOT = 0;
const HTTP_REQUEST = /^GET (\S+) HTTP\/1\.[01]$/;

const TOO_LONG = refusal(
  null,
  "ERR_TOO_LONG",
  `a request has at most ${REQUEST_CHARACTERS_MAX} characters`,
);

function httpAnswer(path: string, vm: Controlled): string {
  const found = path.replace(/\?.*$/s, "") === "/metrics";
  const body = found ? metricsOf(vm) : "Only /metrics is here.\n";
  return [
    `HTTP/1.0 ${found ? "200 OK" : "404 Not Found"}`,
    "Content-Type: text/plain; version=0.0.4; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
    "",
    body,
  ].join("\r\n");
}

/** Resolves when the kernel has all of `text`, or nobody is left to take it. */
function say(socket: Socket, text: string): Promise<void> {
  return new Promise((resolve) => {
    socket.once("close", resolve);
    socket.write(text, () => {
      socket.off("close", resolve);
      resolve();
    });
  });
}

/** Ends a conversation in which all is said; what the client still says is dropped. */
function partWith(socket: Socket): void {
  socket.end();
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), PARTING_MS_MAX);
  socket.once("close", () => clearTimeout(timer));
}

/** The descriptor of a connection. */
function fdOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

/** Answers those who connect to the control socket of a VM. */
export class ControlServer {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #vm: Controlled | Promise<Controlled>;
  readonly #idleMsMax: number;
  /** Asked before the filter, which leaves no call that tells it. */
  readonly #uid = process.geteuid?.() ?? ROOT;

  /**
   * Serves the listening socket `fd`, which is the server's from now on; clients that come before
   * there is a VM wait for it.
   */
  constructor(fd: number, vm: Controlled | Promise<Controlled>, idleMsMax = IDLE_MS_MAX) {
    this.#vm = vm;
    this.#idleMsMax = idleMsMax;
    // Half open: `printf … | nc -U` has said all that it will when it wants the answer.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#connected(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on("error", () => {}); // an accept(2) that failed: the client sees it
    this.#server.listen({ fd, backlog: BACKLOG });
  }

  #connected(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {}); // it is gone: nobody is left to be told
    socket.setTimeout(this.#idleMsMax, () => socket.destroy());
    socket.setEncoding("utf8");
    void this.#serve(socket)
      .catch(() => {})
      .then(() => partWith(socket));
  }

  /** Talks until the client has said everything; it is heard no further while it is answered. */
  async #serve(socket: Socket): Promise<void> {
    const uid = peerUidOf(fdOf(socket));
    if (uid !== this.#uid && uid !== ROOT) {
      return say(socket, refusal(null, "ERR_DENIED", `user ${uid} may not control this VM`));
    }
    const vm = await this.#vm;
    let rest = "";
    let httpPath: string | undefined;
    const texts = socket.iterator({ destroyOnReturn: false }) as AsyncIterable<string>;
    for await (const text of texts) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
        if (line.length > REQUEST_CHARACTERS_MAX) return say(socket, TOO_LONG);
        httpPath ??= HTTP_REQUEST.exec(line)?.[1];
        if (httpPath === undefined) await say(socket, await answerTo(line, vm));
        else if (line === "") return say(socket, httpAnswer(httpPath, vm));
      }
      if (rest.length > REQUEST_CHARACTERS_MAX) return say(socket, TOO_LONG);
    }
  }

  /** Ends every conversation; the descriptors are closed when it resolves. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }
}
