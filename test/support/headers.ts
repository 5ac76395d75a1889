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

/**
 * Values of C expressions that are integer constants.
 *
 * @param includes headers, `linux/kvm.h`
 * @param expressions `sizeof(struct kvm_regs)`, `KVM_RUN`, …
 */
export function headerValues(includes: string[], expressions: string[]): Map<string, bigint> {
  const dir = mkdtempSync(path.join(os.tmpdir(), "bulkhead-headers-"));
  try {
    const source = [
      ...includes.map((include) => `#include <${include}>`),
      "#include <stdio.h>\n#include <stddef.h>",
      "int main(void) {",
      ...expressions.map((e) => `printf("%llu\\n", (unsigned long long)(${e}));`),
      "return 0; }",
    ].join("\n");
    writeFileSync(path.join(dir, "values.c"), source);
    execFileSync("cc", ["-o", "values", "values.c"], { cwd: dir });
    const lines = execFileSync(path.join(dir, "values"), { encoding: "utf8" }).trim().split("\n");
    return new Map(expressions.map((e, i) => [e, BigInt(lines[i] ?? "-1")]));
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
