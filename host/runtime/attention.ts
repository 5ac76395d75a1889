// What a device says it waits for besides requests: 24 bytes of its memory (wit/events.wit), read
// after it has run. What has come is cleared there, so that it is told once; a device that still
// waits for it says so again.

import {
  awaitableFds,
  type GrantedFd,
  maySleep,
  WASI_FD_FIRST,
  wasiFdOf,
} from "../sandbox/grants.js";
import type { Manifest } from "../sandbox/manifest.js";
import type { LinearMemory } from "./linear-memory.js";

const DEADLINE = 0;
const INTEREST = 8;
const CONFIG_GENERATION = 12;
const CONFIG_ADDRESS = 16;
const WITHHELD = 20;
/** Bytes at the address that `attention` returns. */
export const ATTENTION_BYTES = 24;

/** Bit of `interest` for the capability `index` becoming readable. */
export function readableBit(index: number): number {
  return 1 << index;
}

/** Bit of `interest` for the capability `index` becoming writable. */
export function writableBit(index: number): number {
  return 1 << (8 + index);
}

/** A granted descriptor that a device may wait for, and the bits of `interest` that say so. */
export interface Awaited {
  /** While somebody is connected to a socket that listens, the connection instead. */
  readonly fd: number;
  readable: number;
  writable: number;
}

/** What a device may wait for. */
export interface Awaitable {
  descriptors: readonly Awaited[];
  /** Whether its deadlines count. */
  hasClock: boolean;
}

/** The connection that was accepted from the n-th capability, if there is one now. */
export type ConnectionOf = (index: number) => number | undefined;

/** What a device with these grants may wait for; undefined if it is requests and nothing else. */
export function awaitableOf(
  manifest: Manifest,
  grants: readonly GrantedFd[],
  connectionOf: ConnectionOf = () => undefined,
): Awaitable | undefined {
  if (!maySleep(grants)) return undefined;
  const fds = new Set(awaitableFds(grants));
  const descriptors = grants
    .filter(({ fd }) => fds.has(fd))
    .map(({ name, fd }) => {
      const index = wasiFdOf(manifest, name) - WASI_FD_FIRST;
      return {
        get fd() {
          return connectionOf(index) ?? fd;
        },
        readable: readableBit(index),
        writable: writableBit(index),
      };
    });
  return { descriptors, hasClock: grants.some(({ kind }) => kind === "clock") };
}

export class Attention {
  readonly #memory: LinearMemory;
  readonly #at: number;

  /** @param at offset of ATTENTION_BYTES bytes that are inside `memory` */
  constructor(memory: LinearMemory, at: number) {
    this.#memory = memory;
    this.#at = at;
  }

  /** Where in the memory the generation of the config space is. */
  get configGenerationAt(): number {
    return this.#at + CONFIG_GENERATION;
  }

  get #view(): DataView {
    this.#memory.update();
    return this.#memory.view;
  }

  /** Whether it waits for nothing but requests. Asked after each message: allocates nothing. */
  get isQuiet(): boolean {
    const view = this.#view;
    const at = this.#at;
    const deadline = view.getUint32(at + DEADLINE, true) | view.getUint32(at + DEADLINE + 4, true);
    return (deadline | view.getUint32(at + INTEREST, true)) === 0;
  }

  /** When to wake it, in nanoseconds of the monotonic clock; 0 is never. */
  get deadline(): bigint {
    return this.#view.getBigUint64(this.#at + DEADLINE, true);
  }

  /** Capabilities it waits for: see readableBit(), writableBit(). Other bits mean nothing. */
  get interest(): number {
    return this.#view.getUint32(this.#at + INTEREST, true);
  }

  /** A number that changes when the device changes its config space. */
  get configGeneration(): number {
    this.#memory.update();
    return this.#memory.view.getUint32(this.#at + CONFIG_GENERATION, true);
  }

  /** Offset of its config space, unchecked. */
  get configAddress(): number {
    return this.#view.getUint32(this.#at + CONFIG_ADDRESS, true);
  }

  /** Features 0 to 31 of its manifest that it does not offer. */
  get withheld(): number {
    return this.#view.getUint32(this.#at + WITHHELD, true);
  }

  /** Notes that the interests `bits` have come, and the deadline if `isDue`. */
  settle(bits: number, isDue: boolean): void {
    this.#view.setUint32(this.#at + INTEREST, this.interest & ~bits, true);
    if (isDue) this.#view.setBigUint64(this.#at + DEADLINE, 0n, true);
  }

  /** Forgets all that it waits for. */
  clear(): void {
    this.settle(-1, true);
  }
}
