// Memory, the one thing that an attacker can still ask the kernel for: how much of it?

import { type Finding, type Goal, goal } from "../goal.js";
import { type Native, nameOf, packed } from "../native.js";

const MIB = 1024 * 1024;
const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_WRITE = 2;
const RW = PROT_READ | PROT_WRITE;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const MAP_NORESERVE = 0x4000;
const MAP_LOCKED = 0x2000;
const MAP_POPULATE = 0x8000;
const MAP_GROWSDOWN = 0x100;
const MAP_HUGETLB = 0x4_0000;
const FUTEX_WAIT = 0;
const EAGAIN = -11;
const FUTEX_REQUEUE_PRIVATE = 131;

/** The lock-down grants 64 MiB of data, 80 of addresses, and what is there is also there to use. */
const HELD_BYTES_MAX = 288 * MIB;
/** Where an attacker stops: beyond the limit, and harmless to the machine. */
const WANTED_BYTES = 320 * MIB;
const STEP_BYTES = 8 * MIB;
/** Address space whose page tables alone take WANTED_BYTES: 4 KiB for each 2 MiB. */
const READ_BYTES_MAX = WANTED_BYTES * 512;
const READ_STEP_BYTES = 1024 * MIB;
const TABLE_SPAN_BYTES = 2 * MIB;

const bounded = { stop: "bounded", canary: "nothing" } as const;
const noFilter = { canary: "no filter" } as const;

function anonymous(native: Native, bytes: number, prot: number, flags = 0): number {
  return native.call("mmap", 0, bytes, prot, MAP_PRIVATE_ANONYMOUS | flags, -1, 0);
}

function held(bytes: number): Finding {
  const reached = bytes > HELD_BYTES_MAX;
  return { reached, detail: reached ? `${bytes / MIB} MiB` : "bounded" };
}

/** Maps and fills memory until the kernel gives no more; `keep` hides each piece from the limit. */
function hoard(native: Native, keep: (address: number, bytes: number) => void): Finding {
  let bytes = 0;
  while (bytes < WANTED_BYTES) {
    const address = anonymous(native, STEP_BYTES, RW);
    if (address < 0) break;
    native.fill(address, STEP_BYTES);
    keep(address, STEP_BYTES);
    bytes += STEP_BYTES;
  }
  return held(bytes);
}

/** Fills address space that is mapped already, piece by piece. */
function fillReserved(native: Native): Finding {
  let bytes = 0;
  for (const { start, end } of native.mappings) {
    for (let at = start; at + MIB <= end && bytes < WANTED_BYTES; at += MIB) {
      if (native.call("mprotect", at, MIB, RW) < 0) continue;
      native.fill(at, MIB);
      native.call("mprotect", at, MIB, PROT_NONE);
      bytes += MIB;
    }
  }
  return held(bytes);
}

const HOARDING: Goal[] = [
  goal("hold much memory: mmap", bounded, (native) => hoard(native, () => {})),
  goal("hold much memory: brk", bounded, (native) => {
    const start = native.call("brk", 0);
    let bytes = 0;
    for (; bytes < WANTED_BYTES; bytes += STEP_BYTES) {
      const end = start + bytes + STEP_BYTES;
      if (native.call("brk", end) !== end) break;
      native.fill(start + bytes, STEP_BYTES);
    }
    return held(bytes);
  }),
  goal("hold much memory: made inaccessible, which is no data", bounded, (native) =>
    hoard(native, (address, bytes) => void native.call("mprotect", address, bytes, PROT_NONE)),
  ),
  goal("hold much memory: made read-only, which is no data", { canary: "nothing" }, (native) =>
    hoard(native, (address, bytes) => void native.call("mprotect", address, bytes, PROT_READ)),
  ),
  goal("hold much memory: in what V8 has reserved", bounded, fillReserved),
  goal("hold much memory: page tables for reading", { canary: "nothing" }, (native) => {
    let bytes = 0;
    while (bytes < READ_BYTES_MAX) {
      const address = anonymous(native, READ_STEP_BYTES, PROT_READ, MAP_NORESERVE);
      if (address < 0) break;
      native.look(address, { bytes: READ_STEP_BYTES, stride: TABLE_SPAN_BYTES });
      bytes += READ_STEP_BYTES;
    }
    return held(bytes / 512);
  }),
];

/** Advice of madvise(2), from asm-generic/mman-common.h, that no device needs. */
const ADVICE = {
  MADV_WILLNEED: 3,
  MADV_DOFORK: 11,
  MADV_MERGEABLE: 12,
  MADV_HUGEPAGE: 14,
  MADV_COLD: 20,
  MADV_PAGEOUT: 21,
  MADV_POPULATE_WRITE: 23,
} as const;

const TRICKS: Goal[] = [
  ...Object.entries(ADVICE).map(([name, advice]) =>
    goal(`use another advice: ${name}`, { why: "a kernel may lack it" }, (native) =>
      native.call("madvise", anonymous(native, MIB, RW), MIB, advice),
    ),
  ),
  goal(
    "break the machine's memory: MADV_HWPOISON",
    { why: "it would", spared: ["nothing"] },
    (native) => native.call("madvise", anonymous(native, MIB, RW), 4096, 100),
  ),
  goal("lock memory: mlock", { canary: "nothing" }, (native) =>
    native.call("mlock", native.room(16), 16),
  ),
  goal("lock memory: MAP_LOCKED", { why: "RLIMIT_MEMLOCK is 0: EAGAIN" }, (native) =>
    anonymous(native, MIB, RW, MAP_LOCKED),
  ),
  goal("have all of a mapping filled: MAP_POPULATE", noFilter, (native) =>
    anonymous(native, MIB, RW, MAP_POPULATE),
  ),
  goal("have a mapping that grows: MAP_GROWSDOWN", noFilter, (native) =>
    anonymous(native, MIB, RW, MAP_GROWSDOWN),
  ),
  goal("use huge pages: MAP_HUGETLB", { why: "the host may have set none aside" }, (native) =>
    anonymous(native, 2 * MIB, RW, MAP_HUGETLB),
  ),
  goal("wait on memory that others share: futex", noFilter, (native) => {
    const word = native.place(packed(4, 1));
    const result = native.call("futex", word, FUTEX_WAIT, 2, 0, 0, 0);
    return { reached: result === EAGAIN, detail: nameOf(result) };
  }),
  goal("use another operation: FUTEX_REQUEUE_PRIVATE", noFilter, (native) => {
    const word = native.place(packed(4, 1));
    return native.call("futex", word, FUTEX_REQUEUE_PRIVATE, 0, 0, word, 0);
  }),
  goal("share memory with a process to come: MADV_DOFORK and fork", { canary: "nothing" }, (n) => {
    const advised = n.call("madvise", anonymous(n, MIB, RW), MIB, ADVICE.MADV_DOFORK);
    if (advised < 0) return advised;
    const pid = n.call("fork");
    if (pid === 0) n.call("exit_group", 0);
    return pid;
  }),
];

export const MEMORY_GOALS: readonly Goal[] = [...HOARDING, ...TRICKS];
