// The guest programs of test/guest/. They are committed as built, so that neither tests nor the
// demo need a C compiler; this script copies them to dist/guest/, where the packed package has
// them.
//
//   node dist/build/guest.js              copies
//   node dist/build/guest.js --rebuild    compiles first, with $CC or cc; commit the result

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const SOURCES = path.join(ROOT, "test", "guest");
const OUTPUT = path.join(ROOT, "dist", "guest");

/** What every program is made of, besides its own file. */
const SHARED_SOURCES = ["start.S", "text.c", "platform.c", "virtio.c"];

/** The programs; each is `test/guest/NAME.c`. */
export const PROGRAMS = ["entropy"] as const;
export type Program = (typeof PROGRAMS)[number];

// No red zone, because exceptions push onto a stack; general registers only, because nobody enables
// SSE; no aliasing rules, because rings and buffers are memory that a device writes.
const CFLAGS = [
  ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"],
  ["-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"],
  ["-mno-red-zone", "-mgeneral-regs-only", "-fno-strict-aliasing", "-fno-stack-protector"],
  ["-fno-asynchronous-unwind-tables", "-fcf-protection=none"],
  ["-Wl,-T,guest.ld", "-Wl,--build-id=none", "-Wl,-s", "-Wl,-z,noexecstack"],
].flat();

/** Path of the committed ELF of `program`. */
export function guestPath(program: Program): string {
  return path.join(SOURCES, `${program}.elf`);
}

/** Command that compiles C here, or undefined when there is none. */
export function findCompiler(): string | undefined {
  const compiler = process.env.CC ?? "cc";
  const { status } = spawnSync(compiler, ["--version"], { stdio: "ignore" });
  return status === 0 ? compiler : undefined;
}

/**
 * Compiles `program` to the ELF file `output`.
 *
 * @throws Error with the compiler's messages
 */
export function compileGuest(program: Program, output: string): void {
  const compiler = findCompiler();
  if (!compiler) throw new Error("Cannot compile a guest: no C compiler, is gcc installed?");
  const args = [...CFLAGS, "-o", path.resolve(output), ...SHARED_SOURCES, `${program}.c`];
  const { status, stderr } = spawnSync(compiler, args, { cwd: SOURCES, encoding: "utf8" });
  if (status !== 0) throw new Error(`Cannot compile guest "${program}": ${stderr}`);
}

function main(): void {
  fs.mkdirSync(OUTPUT, { recursive: true });
  for (const program of PROGRAMS) {
    const elf = guestPath(program);
    if (process.argv.includes("--rebuild")) {
      compileGuest(program, elf);
      fs.chmodSync(elf, 0o644);
    }
    fs.copyFileSync(elf, path.join(OUTPUT, `${program}.elf`));
    console.log(`dist/guest/${program}.elf: ${fs.statSync(elf).size} bytes`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main();
