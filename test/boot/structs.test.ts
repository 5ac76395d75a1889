// The struct layouts against the installed headers. struct hvm_start_info and its two entries have
// no installed header (Xen's public headers are not packaged with libc); their sizes are asserted
// where they are laid out, and their offsets below are those of start_info.h's own drawing.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "uvu";
import { Elf64_Ehdr, Elf64_Nhdr, Elf64_Phdr } from "../../host/boot/elf.js";
import {
  boot_e820_entry,
  boot_params,
  E820_MAX_ENTRIES_ZEROPAGE,
  setup_header,
} from "../../host/boot/params.js";
import { hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info } from "../../host/boot/pvh.js";
import type { Struct } from "../../host/ffi/struct.js";
import { skip } from "../support/skip.js";

type Layout = Pick<Struct, "name" | "size"> & { offsets: Record<string, number> };

/** Each offset and size as `cc` computes it from the headers, as `expression value` lines. */
function compiled(program: string): string[] | undefined {
  const folder = mkdtempSync(join(tmpdir(), "bulkhead-structs-"));
  try {
    const source = join(folder, "structs.c");
    const binary = join(folder, "structs");
    writeFileSync(source, program);
    const cc = spawnSync("cc", ["-o", binary, source], { encoding: "utf8" });
    if (cc.error !== undefined) return undefined;
    assert.equal(cc.status, 0, cc.stderr);
    return spawnSync(binary, { encoding: "utf8" }).stdout.trim().split("\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function compare(header: string, layouts: Layout[], ctype: (name: string) => string): void {
  const expressions = layouts.flatMap(({ name, size, offsets }) => [
    [`sizeof(${ctype(name)})`, size] as const,
    ...Object.entries(offsets).map(
      ([field, offset]) => [`offsetof(${ctype(name)}, ${field})`, offset] as const,
    ),
  ]);
  const lines = expressions.map(([text]) => `printf("%s %zu\\n", "${text}", ${text});`);
  const include = `#include <stdio.h>\n#include <stddef.h>\n#include <${header}>\n`;
  const actual = compiled(`${include}int main(void) {\n${lines.join("\n")}\nreturn 0; }\n`);
  if (actual === undefined) {
    skip(`no cc to compare ${header} with`);
    return;
  }
  assert.deepEqual(
    expressions.map(([text, value]) => `${text} ${value}`),
    actual,
  );
}

test("boot_params, setup_header and boot_e820_entry are as <asm/bootparam.h> has them", () => {
  const layouts = [boot_params, setup_header, boot_e820_entry];
  compare("asm/bootparam.h", layouts, (name) => `struct ${name}`);
});

test("E820_MAX_ENTRIES_ZEROPAGE fills the table of boot_params", () => {
  const { e820_table, _pad8 } = boot_params.offsets;
  assert.equal(_pad8 - e820_table, E820_MAX_ENTRIES_ZEROPAGE * boot_e820_entry.size);
});

test("Elf64_Ehdr, Elf64_Phdr and Elf64_Nhdr are as <elf.h> has them", () => {
  compare("elf.h", [Elf64_Ehdr, Elf64_Phdr, Elf64_Nhdr], (name) => name);
});

test("hvm_start_info and its entries are as start_info.h draws them", () => {
  assert.deepEqual(Object.values(hvm_start_info.offsets), [0, 4, 8, 12, 16, 24, 32, 40, 48, 52]);
  assert.deepEqual(Object.values(hvm_modlist_entry.offsets), [0, 8, 16, 24]);
  assert.deepEqual(Object.values(hvm_memmap_table_entry.offsets), [0, 8, 16, 20]);
});

test.run();
