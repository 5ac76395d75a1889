// Starts test/sandbox/child.ts as a device process and talks to it.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import wabtOf from "wabt";
import { recv, syscall } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import type { LockdownReport } from "../../host/sandbox/lockdown.js";
import {
  type DeviceExit,
  type DeviceProcess,
  type SpawnOptions,
  spawnDevice,
} from "../../host/sandbox/spawn.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";
import { Guard } from "../support/guard.js";
import { childProgram } from "./program.js";

const MESSAGE_BYTES_MAX = 16 * 1024;
const POLL_MS = 1;
const MSG_NOSIGNAL = 0x4000;

/**
 * A module with the exports that child.ts calls, assembled by hand; its import takes one number.
 */
export const WAT = `(module
  (import "wasi_snapshot_preview1" "fd_read" (func $outside (param i32) (result i32)))
  (memory (export "memory") 1 4)
  (func (export "add") (param i32 i32) (result i32)
    (i32.add (call $outside (local.get 0)) (local.get 1)))
  (func (export "outOfBounds") (result i32) (i32.load (i32.const 0x7fffff00)))
  (func $recurse (export "recurse") (call $recurse)))`;

const wabt = await wabtOf();

/** The module, assembled into a file. */
export function childModule(): string {
  const module = wabt.parseWat("child.wat", WAT, {});
  const { buffer } = module.toBinary({});
  module.destroy();
  return temporaryFile("child.wasm", new Uint8Array(buffer));
}

/** A file that is there until the process ends. */
export function temporaryFile(name: string, content: Uint8Array | string): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-sandbox-"));
  process.on("exit", () => fs.rmSync(directory, { recursive: true, force: true }));
  fs.chmodSync(directory, 0o755);
  const file = path.join(directory, name);
  fs.writeFileSync(file, content);
  return file;
}

/** A started child: what it says and how it ends. */
export class Child {
  readonly process: DeviceProcess;
  readonly exit: Promise<DeviceExit>;
  readonly guard: Guard;
  readonly #buffer = Mapping.anonymous(MESSAGE_BYTES_MAX);
  #ended = false;

  constructor(options: SpawnOptions) {
    this.process = spawnDevice(options);
    this.guard = new Guard(this.process, options.seccomp);
    this.exit = new Promise((resolve) => this.process.onExit(resolve));
    void this.exit.then(() => {
      this.#ended = true;
    });
  }

  /**
   * The next message, or how the process ended if it ends without one: `denied open(…)` if that was
   * the reason.
   */
  async hear(): Promise<string> {
    for (;;) {
      const ended = this.#ended;
      const text = this.guard.poll() ? this.#receive() : undefined;
      if (text !== undefined) return text;
      const { reason } = ended ? await this.exit : { reason: undefined };
      const [denied] = this.guard.denied;
      if (reason !== undefined) return denied === undefined ? reason : `denied ${denied}`;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  #receive(): string | undefined {
    const bytes = recv(this.process.socketFd, this.#buffer.address, MESSAGE_BYTES_MAX, 0);
    if (bytes <= 0) return undefined;
    return new TextDecoder().decode(this.#buffer.view.buffer.slice(0, bytes));
  }

  /** Lets the child go on. */
  go(): void {
    const { socketFd } = this.process;
    syscall(syscallNumber("sendto"), socketFd, this.#buffer.address, 1, MSG_NOSIGNAL, 0, 0);
  }

  async close(): Promise<DeviceExit> {
    this.process.close();
    this.guard.close();
    return this.exit;
  }
}

export interface Outcome {
  report: LockdownReport;
  said: string;
  /** Denied calls, in log mode all of them. */
  denied: readonly string[];
}

/** Starts a child, lets it do `deed` once it is confined, and ends it. */
export async function perform(deed: string, changes: Partial<SpawnOptions> = {}): Promise<Outcome> {
  const child = start(deed, changes);
  try {
    const first = await child.hear();
    if (!first.startsWith("{")) throw new Error(`the child did not get ready: ${first}`);
    child.go();
    const report = JSON.parse(first) as LockdownReport;
    return { report, said: await child.hear(), denied: child.guard.denied };
  } finally {
    await child.close();
  }
}

let module: string | undefined;

/** Starts a child that will do `deed`. */
export function start(deed: string, changes: Partial<SpawnOptions> = {}): Child {
  const grant = { name: "source", kind: "file", what: "/dev/urandom", rights: ["read"] } as const;
  const grants = [{ ...grant, rights: [...grant.rights] }];
  module ??= childModule();
  return new Child({
    id: deed,
    module,
    grants,
    seccomp: "enforce",
    entry: childProgram,
    ...changes,
  });
}
