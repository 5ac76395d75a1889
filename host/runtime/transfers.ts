// The four WASI functions that move bytes, in WebAssembly (assembly/transfers.ts): a module of our
// own does what is plain, and makes the system call by itself.
//
// It works on the device's memory, which exists when the device is linked, and that needs these
// functions: so the device is linked with others (assembly/linked.ts) that find them in a table.

import { pread64, pwrite64, read, write } from "../ffi/libc.js";
import { FD_PREAD, FD_PWRITE, FD_READ, FD_WRITE, FILES_MAX } from "./assembly/granted.js";
import { lastErrno } from "./errno.js";
import type { ImportedCall } from "./instance.js";
import type { OpenFile } from "./open-file.js";
import { wasmCode } from "./wasm-code.js";

const PAGE_BYTES = 64 * 1024;

/** Their indexes. */
const TRANSFERS = {
  fd_read: FD_READ,
  fd_write: FD_WRITE,
  fd_pread: FD_PREAD,
  fd_pwrite: FD_PWRITE,
} as const;
export type TransferName = keyof typeof TRANSFERS;
export const TRANSFER_NAMES = Object.keys(TRANSFERS) as TransferName[];

type PlainFile = Pick<OpenFile, "fd" | "functions" | "isPlain">;
/** What the descriptors of a device are, by their numbers for the device. */
export type OpenFiles = readonly (PlainFile | undefined)[];

type Functions = Partial<Record<TransferName, ImportedCall>>;

function instanceOf(name: string, imports: object): WebAssembly.Exports {
  const module = new WebAssembly.Module(wasmCode(name));
  return new WebAssembly.Instance(module, imports as WebAssembly.Imports).exports;
}

/** Fills in the words of linked.ts: a row must not run into the next one, another function's. */
function fill(words: Uint32Array, files: OpenFiles): void {
  for (const [fd, file] of files.slice(0, FILES_MAX).entries()) {
    if (file?.isPlain !== true) continue;
    for (const name of TRANSFER_NAMES) {
      if (file.functions.has(name)) words[TRANSFERS[name] * FILES_MAX + fd] = file.fd + 1;
    }
  }
}

/** What a device is linked with in place of functions in JavaScript. */
export class Transfers {
  readonly #slow: Functions;
  readonly #table = new WebAssembly.Table({ element: "anyfunc", initial: TRANSFER_NAMES.length });
  /** Not made where no file is plain, which saves such a device a millisecond. */
  readonly #linked: WebAssembly.Exports | undefined;
  readonly #base = new WebAssembly.Global({ value: "f64", mutable: true }, 0);
  readonly #pages = new WebAssembly.Global({ value: "i32", mutable: true }, -1);
  #address = 0;
  #bytes = 0;

  /**
   * @param slow the functions that know every case
   * @param files those that were granted; they stay as they are
   */
  constructor(slow: Functions, files: OpenFiles) {
    this.#slow = slow;
    if (!files.some((file) => file?.isPlain)) return;
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    fill(new Uint32Array(memory.buffer), files);
    this.#linked = instanceOf("linked", { env: { memory, table: this.#table } });
  }

  /** The functions for a device to import; none may be called before attach(). */
  get functions(): Functions {
    return (this.#linked ?? {}) as Functions;
  }

  /** The device exists, and so does its memory. */
  attach(memory: unknown): void {
    if (this.#linked === undefined) return;
    const functions = instanceOf("transfers", {
      env: { memory },
      place: { base: this.#base, pages: this.#pages },
      libc: { read, write, pread64, pwrite64 },
      javascript: { ...this.#slow, errno: lastErrno },
    });
    for (const name of TRANSFER_NAMES) this.#table.set(TRANSFERS[name], functions[name]);
  }

  /** The memory is at this native address now, and has so many bytes. */
  follow({ address, bytes }: { address: number; bytes: number }): void {
    if (address === this.#address && bytes === this.#bytes) return;
    this.#address = address;
    this.#bytes = bytes;
    this.#base.value = address;
    this.#pages.value = bytes / PAGE_BYTES;
  }
}
