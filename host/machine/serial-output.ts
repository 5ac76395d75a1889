// Where the serial console's bytes go: straight to a descriptor, or, for a caller that wants
// events, through a socket that the supervisor reads.

import { Socket } from "node:net";
import { writeFailure } from "../errors.js";
import { checked, close, socketpair } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;

/**
 * An unfinished line is delivered when nothing followed it for so long: a prompt has no line end.
 */
const LINE_WAIT_MS = 20;
/** A line without end is delivered in pieces of this many characters. */
const LINE_CHARACTERS_MAX = 4096;

/** Turns text that comes byte by byte into lines. */
class LineBuffer {
  #text = "";
  #timer: NodeJS.Timeout | undefined;
  readonly #onText: (text: string) => void;

  constructor(onText: (text: string) => void) {
    this.#onText = onText;
  }

  push(text: string): void {
    clearTimeout(this.#timer);
    this.#text += text;
    const complete = this.#text.length > LINE_CHARACTERS_MAX || this.#text.endsWith("\n");
    if (complete) this.flush();
    else this.#timer = setTimeout(() => this.flush(), LINE_WAIT_MS);
  }

  flush(): void {
    clearTimeout(this.#timer);
    if (this.#text !== "") this.#onText(this.#text);
    this.#text = "";
  }
}

/** A connected pair of stream sockets. */
function streamPair(): [number, number] {
  const pair = Mapping.anonymous(8);
  const result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.address);
  checked(result, "socketpair", "Cannot read the serial console");
  const fds: [number, number] = [pair.view.getInt32(0, true), pair.view.getInt32(4, true)];
  pair.close();
  return fds;
}

/** What a user is told when the first byte of it is lost. */
export function lostText(errno: number): string {
  return `cannot write the serial output: ${writeFailure(errno)}; the guest goes on`;
}

export class SerialOutput {
  /** Descriptor that the vCPUs write to. */
  readonly fd: number;
  readonly #reader: Socket | undefined;

  private constructor(fd: number, reader?: Socket) {
    this.fd = fd;
    this.#reader = reader;
  }

  /** Output to `fd`, or to `onText` when `fd` is -1. */
  static open(fd: number, onText: (text: string) => void): SerialOutput {
    if (fd !== -1) return new SerialOutput(fd);
    const [ours, theirs] = streamPair();
    const reader = new Socket({ fd: ours, readable: true, writable: false });
    reader.setEncoding("utf8");
    const lines = new LineBuffer(onText);
    reader.on("data", (text: string) => lines.push(text));
    reader.on("end", () => lines.flush());
    return new SerialOutput(theirs, reader);
  }

  /** Resolves when everything that the guest wrote has been delivered. */
  async close(): Promise<void> {
    const reader = this.#reader;
    if (reader === undefined) return;
    const ended = new Promise((resolve) => reader.once("close", resolve));
    close(this.fd);
    await ended;
  }
}
