// The outside world of a device in tests: @wasmer/wasi's in-memory one, without any access to the
// host, and capabilities that are reproducible from a seed.

import { init, WASI } from "@wasmer/wasi";
import type { ImportedCall, World } from "../../host/runtime/instance.js";
import type { LinearMemory } from "../../host/runtime/linear-memory.js";
import { WASI_FD_FIRST } from "../../host/sandbox/grants.js";
import { SeededSource } from "../../host/testing/grants.js";

await init();

/** Streams, arguments, environment and paths are wasmer's; descriptors from 3 on are ours. */
export class InMemoryWorld implements World {
  readonly #wasi = new WASI({});
  readonly #source: SeededSource;
  #memory: LinearMemory | undefined;

  constructor(seed: number) {
    this.#source = new SeededSource(seed);
  }

  link(module: WebAssembly.Module): Record<string, ImportedCall> {
    const imports = this.#wasi.getImports(module) as WebAssembly.Imports;
    const theirs = imports.wasi_snapshot_preview1!;
    const theirRead = theirs.fd_read as (...parameters: number[]) => number;
    const fd_read = (fd: number, iovs: number, count: number, nread: number) =>
      fd < WASI_FD_FIRST ? theirRead(fd, iovs, count, nread) : this.#read(iovs, nread);
    return { ...theirs, fd_read };
  }

  attach(instance: WebAssembly.Instance, memory: LinearMemory): void {
    this.#memory = memory;
    this.#wasi.instantiate(instance);
  }

  /** Standard output of the module so far. */
  get stdout(): string {
    return this.#wasi.getStdoutString();
  }

  #read(iovs: number, nread: number): number {
    this.#memory!.update();
    const { view } = this.#memory!;
    const at = view.getUint32(iovs, true);
    const bytes = view.getUint32(iovs + 4, true);
    this.#source.read(new Uint8Array(view.buffer, at, bytes));
    view.setUint32(nread, bytes, true);
    return 0;
  }
}
