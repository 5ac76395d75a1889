// Ends an emulated host that hangs: it has jobs that do not end in their time, or its own kernel
// gives no sign of life any more. Only the second tells early, and only the first a job's hang.

import fs from "node:fs";

/** From starting QEMU to the first job: four times what it takes on a busy machine. */
const HOST_BOOT_MS = 120_000;
/** Added to a job's own limit, which the emulated host watches: then the host itself hangs. */
const HOST_GRACE_MS = 30_000;
/**
 * host-init.sh gives a sign every three seconds, so twenty are missing: a host has both virtual
 * CPUs in a loop then, or none that runs.
 */
const SIGN_MS_MAX = 60_000;
const LOOK_MS = 2000;

/** A sign with all that belongs to it, as its kernel writes it to the console (host-init.sh). */
const SIGN = /\[ *\d+\.\d+\] host: alive\r*\n/g;

/** What the host's kernel says, without its signs of life. */
export function withoutHostSigns(console: string): string {
  return console.replaceAll(SIGN, "");
}

/** Kills an emulated host that makes no progress. */
export class HostWatch {
  readonly #consoleFile: string;
  readonly #kill: () => void;
  readonly #deadline: number;
  readonly #signMsMax: number;
  readonly #look: NodeJS.Timeout;
  #limit: NodeJS.Timeout | undefined;
  #signs = 0;
  #lastSign = performance.now();

  /**
   * @param consoleFile what the host's kernel writes
   * @param deadline of the test file, on performance.now()'s clock
   * @param signMsMax what it may be silent for
   */
  constructor(consoleFile: string, deadline: number, kill: () => void, signMsMax = SIGN_MS_MAX) {
    this.#consoleFile = consoleFile;
    this.#deadline = deadline;
    this.#kill = kill;
    this.#arm(HOST_BOOT_MS);
    this.#signMsMax = signMsMax;
    this.#look = setInterval(() => this.#lookForSigns(), Math.min(LOOK_MS, signMsMax / 4));
  }

  /** A job has started, which has so long, or ended. */
  progress(jobMs = 0): void {
    this.#arm(jobMs + HOST_GRACE_MS);
  }

  close(): void {
    clearTimeout(this.#limit);
    clearInterval(this.#look);
  }

  #arm(limitMs: number): void {
    clearTimeout(this.#limit);
    const left = Math.max(0, this.#deadline - performance.now());
    this.#limit = setTimeout(this.#kill, Math.min(limitMs, left));
  }

  /** Before the first sign it is booting, which has a limit of its own. */
  #lookForSigns(): void {
    if (!fs.existsSync(this.#consoleFile)) return;
    const signs = fs.readFileSync(this.#consoleFile, "latin1").match(SIGN)?.length ?? 0;
    const now = performance.now();
    if (signs !== this.#signs) [this.#signs, this.#lastSign] = [signs, now];
    else if (signs > 0 && now - this.#lastSign > this.#signMsMax) this.#kill();
  }
}
