// Numbers of system calls that no device may make, and arguments for them.

import { __X32_SYSCALL_BIT } from "../../../host/sandbox/bpf.js";
import type { Policy } from "../../../host/sandbox/policy.js";

/** Far more than there are: 470 in Linux 6.18. */
export const NUMBERS_MAX = 600;

/**
 * Linux 6.14 and later ask no filter about uretprobe (335) and uprobe (336): a probe that an
 * administrator sets must work in any process. From anywhere but the trampoline of a probe the
 * first is SIGILL and the second ENXIO.
 */
export const UNFILTERED = { uretprobe: 335, uprobe: 336 } as const;

/** Beyond every table, at the edges of types, and with bits that the kernel may cut off. */
export const ABSURD: readonly bigint[] = [
  1023n,
  4095n,
  65535n,
  0x3fff_ffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_003bn,
  0x7fff_ffff_ffff_ffffn,
  0xffff_ffff_ffff_ffffn,
];

/**
 * All numbers but those of the policy and UNFILTERED: the x32 forms are among them, even of those.
 */
export function numbersToSweep({ rules }: Policy): bigint[] {
  const allowed = new Set(rules.map(({ nr }) => nr));
  const all = Array.from({ length: NUMBERS_MAX + 1 }, (_, nr) => nr);
  const unfiltered = new Set<number>(Object.values(UNFILTERED));
  const denied = all.filter((nr) => !allowed.has(nr) && !unfiltered.has(nr));
  const x32 = all.map((nr) => nr + __X32_SYSCALL_BIT);
  return [...[...denied, ...x32].map(BigInt), ...ABSURD];
}

/** Arguments: nothing, a descriptor with a buffer, a buffer first, and all bits set. */
export const VECTORS: readonly ((buffer: number) => (number | bigint)[])[] = [
  () => [],
  (buffer) => [3, buffer, 16, 0, 0, 0],
  (buffer) => [buffer, 16, 5, buffer, 0, 0],
  () => new Array(6).fill(0xffff_ffff_ffff_ffffn),
];
