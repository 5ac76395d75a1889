// Somebody at the slave of a pseudo-terminal that Bulkhead made.

import fs from "node:fs";

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = fs.constants;
const READ_BYTES = 64 * 1024;
const TAIL_CHARACTERS = 200;
const RETRY_MS = 2;
/** Far beyond what any of this takes: it only keeps a hang from stopping all tests. */
const HEAR_MS_MAX = 60_000;

export class Slave {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = fs.openSync(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
  }

  type(text: string): void {
    fs.writeSync(this.#fd, text);
  }

  /** What can be read now; undefined where that is nothing. */
  read(): Buffer | undefined {
    const buffer = Buffer.alloc(READ_BYTES);
    try {
      return buffer.subarray(0, fs.readSync(this.#fd, buffer));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EAGAIN") return undefined;
      throw error;
    }
  }

  /** All that is said until `isEnough`, which is asked after each piece. */
  async hear(isEnough: (bytes: number, tail: string) => boolean): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let [bytes, tail] = [0, ""];
    for (const end = performance.now() + HEAR_MS_MAX; performance.now() < end; ) {
      const piece = this.read();
      if (piece === undefined) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      pieces.push(piece);
      bytes += piece.length;
      tail = `${tail}${piece.toString("latin1")}`.slice(-TAIL_CHARACTERS);
      if (isEnough(bytes, tail)) return Buffer.concat(pieces);
    }
    throw new Error(`${bytes} bytes, and no more: ${JSON.stringify(tail)}`);
  }

  /** All that is said up to `text`. */
  hearText(text: string): Promise<Buffer> {
    return this.hear((_, tail) => tail.endsWith(text));
  }

  close(): void {
    fs.closeSync(this.#fd);
  }
}
