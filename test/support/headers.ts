// Asks the installed C headers: compiles a program that prints the value of each expression.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** Whether a C compiler with the kernel's headers is here; the reason to skip when not. */
export function missingCompiler(): string | undefined {
  const probe = spawnSync("cc", ["-E", "-x", "c", "-"], { input: "#include <linux/kvm.h>\n" });
  if (probe.status === 0) return undefined;
  return "no C compiler with kernel headers: apt-get install gcc libc6-dev";
}

/** An empty line in the place of a value. */
const ABSENT = 'puts("");';

/**
 * Values of C expressions that are integer constants.
 *
 * @param includes headers, `linux/kvm.h`
 * @param expressions `sizeof(struct kvm_regs)`, `KVM_RUN`, …
 * @param optional macros among them that older headers do not have: those are left out then
 */
export function headerValues(
  includes: string[],
  expressions: string[],
  optional: readonly string[] = [],
): Map<string, bigint> {
  const dir = mkdtempSync(path.join(os.tmpdir(), "bulkhead-headers-"));
  try {
    const source = [
      ...includes.map((include) => `#include <${include}>`),
      "#include <stdio.h>\n#include <stddef.h>",
      "int main(void) {",
      ...expressions.flatMap((e) => {
        const print = `printf("%llu\\n", (unsigned long long)(${e}));`;
        return optional.includes(e) ? [`#ifdef ${e}`, print, "#else", ABSENT, "#endif"] : [print];
      }),
      "return 0; }",
    ].join("\n");
    writeFileSync(path.join(dir, "values.c"), source);
    execFileSync("cc", ["-o", "values", "values.c"], { cwd: dir });
    const lines = execFileSync(path.join(dir, "values"), { encoding: "utf8" }).split("\n");
    const found = expressions.map((e, i): [string, string] => [e, lines[i] ?? "-1"]);
    return new Map(found.filter(([, line]) => line !== "").map(([e, line]) => [e, BigInt(line)]));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

interface Layout {
  readonly name: string;
  readonly size: number;
  readonly offsets: Readonly<Record<string, number>>;
}

/** What `struct` claims, as C expressions and the values that the headers must give them. */
export function claimsOf(struct: Layout): Map<string, bigint> {
  const type = `struct ${struct.name}`;
  const claims = new Map([[`sizeof(${type})`, BigInt(struct.size)]]);
  for (const [field, offset] of Object.entries(struct.offsets)) {
    claims.set(`offsetof(${type}, ${field})`, BigInt(offset));
  }
  return claims;
}
