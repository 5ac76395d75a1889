// The guest programs of test/guest/. They are committed as built, so that neither tests nor the
// demo need a C compiler; this script copies what the packed package has of them to dist/guest/.
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

/** What every program is made of, besides its own files. */
const SHARED_SOURCES = ["start.S", "text.c", "platform.c", "virtio.c", "pci.c"];

/** The programs, and what each is made of besides. */
const PROGRAMS = {
  entropy: ["entropy.c", "histogram.c"],
  config: ["config.c"],
  console: ["console.c"],
  disk: ["disk.c", "histogram.c"],
  hostile: [
    "hostile.c",
    "hostile-memory.c",
    "hostile-driver.c",
    "hostile-chains.c",
    "hostile-registers.c",
    "hostile-races.c",
  ],
};
export type Program = keyof typeof PROGRAMS;

/** Those that the package has; the others are for tests only. */
const PACKED: readonly Program[] = ["entropy"];

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
  const args = [...CFLAGS, "-o", path.resolve(output), ...SHARED_SOURCES, ...PROGRAMS[program]];
  const { status, stderr } = spawnSync(compiler, args, { cwd: SOURCES, encoding: "utf8" });
  if (status !== 0) throw new Error(`Cannot compile guest "${program}": ${stderr}`);
}

function main(): void {
  fs.mkdirSync(OUTPUT, { recursive: true });
  if (process.argv.includes("--rebuild")) {
    for (const program of Object.keys(PROGRAMS) as Program[]) {
      compileGuest(program, guestPath(program));
      fs.chmodSync(guestPath(program), 0o644);
    }
  }
  for (const program of PACKED) {
    const elf = guestPath(program);
    fs.copyFileSync(elf, path.join(OUTPUT, `${program}.elf`));
    console.log(`dist/guest/${program}.elf: ${fs.statSync(elf).size} bytes`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main();
