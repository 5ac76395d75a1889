// Machine code: nothing that an attacker writes ever runs, and no foreign door to the kernel opens.

import { type Finding, type Goal, goal } from "../goal.js";
import { type Native, nameOf, packed, RETURN_42 } from "../native.js";

const PROT_READ = 1;
const PROT_WRITE = 2;
const PROT_EXEC = 4;
const RW = PROT_READ | PROT_WRITE;
const RX = PROT_READ | PROT_EXEC;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 0x20;
const MAP_FIXED = 0x10;
const MREMAP_MAYMOVE = 1;
const PAGE_BYTES = 4096;
const IPC_PRIVATE = 0;
const SHM_EXEC = 0o100000;
const READ_IMPLIES_EXEC = 0x040_0000;
const ARCH_SET_GS = 0x1001;
const UFFD_USER_MODE_ONLY = 1;
const GETPID_I386 = 20;
const __X32_SYSCALL_BIT = 0x4000_0000;
const GETPID = 39;

const noFilter = { canary: "no filter" } as const;
const nothing = { canary: "nothing" } as const;

/** Reached if the code at `address` runs. */
function executed(native: Native, address: number): Finding {
  if (address < 0) return { reached: false, detail: nameOf(address) };
  const result = native.run(address);
  return { reached: result === 42, detail: `executed, returned ${result}` };
}

function anonymous(native: Native, prot: number): number {
  return native.call("mmap", 0, PAGE_BYTES, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/** New memory that holds code. */
function written(native: Native): number {
  const address = anonymous(native, RW);
  if (address > 0) native.put(address, RETURN_42);
  return address;
}

const EXECUTABLE: Goal[] = [
  goal("run code it wrote: mmap writable and executable", noFilter, (native) => {
    const address = anonymous(native, RW | PROT_EXEC);
    if (address > 0) native.put(address, RETURN_42);
    return executed(native, address);
  }),
  goal("run code it wrote: mprotect", noFilter, (native) => {
    const address = written(native);
    const result = native.call("mprotect", address, PAGE_BYTES, RX);
    return executed(native, result < 0 ? result : address);
  }),
  goal("run code it wrote: pkey_mprotect", noFilter, (native) => {
    const address = written(native);
    const result = native.call("pkey_mprotect", address, PAGE_BYTES, RX, -1);
    return executed(native, result < 0 ? result : address);
  }),
  goal("run code it wrote: over code that was there", noFilter, (native) => {
    const address = native.codePage;
    native.call("mprotect", address, PAGE_BYTES, RW);
    native.put(address, RETURN_42);
    const result = native.call("mprotect", address, PAGE_BYTES, RX);
    return executed(native, result < 0 ? result : address);
  }),
  goal("run code it wrote: a memfd mapped executable", nothing, (native) => {
    const fd = native.call("memfd_create", "code", 0);
    if (fd < 0) return fd;
    const result = native.call("write", fd, RETURN_42, RETURN_42.length);
    if (result < 0) return result;
    return executed(native, native.call("mmap", 0, PAGE_BYTES, RX, MAP_PRIVATE, fd, 0));
  }),
  goal("run code it wrote: shared memory attached with SHM_EXEC", noFilter, (native) => {
    const id = native.call("shmget", IPC_PRIVATE, PAGE_BYTES, 0o700);
    if (id < 0) return id;
    const address = native.call("shmat", id, 0, SHM_EXEC);
    native.call("shmctl", id, 0, 0);
    if (address > 0) native.put(address, RETURN_42);
    return executed(native, address);
  }),
  goal("run code it wrote: personality READ_IMPLIES_EXEC", noFilter, (native) => {
    const result = native.call("personality", READ_IMPLIES_EXEC);
    return executed(native, result < 0 ? result : written(native));
  }),
  goal("move executable memory: mremap", noFilter, (native) =>
    native.call("mremap", native.codePage, PAGE_BYTES, PAGE_BYTES * 2, MREMAP_MAYMOVE),
  ),
  goal("map over code: MAP_FIXED", noFilter, (native) => {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    return native.call("mmap", native.codePage, PAGE_BYTES, RW, flags, -1, 0);
  }),
  goal("map memory that others can see: MAP_SHARED", noFilter, (native) =>
    native.call("mmap", 0, PAGE_BYTES, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0),
  ),
  goal(
    "run code it wrote: brk into other memory",
    { stop: "not moved", why: "the kernel never lets the heap grow over a mapping" },
    (native) => {
      const start = native.call("brk", 0);
      const end = native.call("brk", native.codePage);
      const reached = end !== start;
      return { reached, detail: reached ? `moved to ${end}` : "not moved" };
    },
  ),
  goal(
    "map the zero page: an address as a hint",
    { stop: "elsewhere", why: "a hint below mmap_min_addr is not followed" },
    (native) => {
      const address = native.call("mmap", 1, PAGE_BYTES, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      return { reached: address < PAGE_BYTES, detail: "elsewhere" };
    },
  ),
];

const DOORS: Goal[] = [
  goal(
    "enter the kernel as a 32-bit program: int 0x80",
    { ...noFilter, stop: "SIGSYS" },
    (native) => native.int80(GETPID_I386),
  ),
  goal(
    "enter the kernel as an x32 program",
    { why: "few kernels have x32", stop: "SIGSYS" },
    (native) => native.raw(__X32_SYSCALL_BIT | GETPID),
  ),
  goal("enter the kernel through the vsyscall page", { why: "not in every kernel" }, (native) => {
    const result = native.vsyscallTime();
    return { reached: result > 0, detail: `returned ${result}` };
  }),
  goal("use a number that does not exist", { why: "it does nothing: ENOSYS" }, (native) =>
    native.raw(0x3fff_ffff),
  ),
  goal("use the number -1", { why: "it does nothing: ENOSYS", stop: "SIGSYS" }, (native) =>
    native.raw(-1),
  ),
  goal("install segments: modify_ldt", noFilter, (native) =>
    native.call("modify_ldt", 1, packed(4, 0, 0, 0, 0x3b), 16),
  ),
  goal("move its segment registers: arch_prctl", noFilter, (native) =>
    native.call("arch_prctl", ARCH_SET_GS, 0),
  ),
  goal("get page faults delivered: userfaultfd", { why: "a sysctl may deny it" }, (native) =>
    native.call("userfaultfd", UFFD_USER_MODE_ONLY),
  ),
  goal("change the filter: seccomp", noFilter, (native) => {
    const SECCOMP_RET_ALLOW = 0x7fff_0000n;
    const program = native.place(packed(8, 0x06n | (SECCOMP_RET_ALLOW << 32n)));
    return native.call("seccomp", 1, 0, packed(8, 1, program));
  }),
];

export const CODE_GOALS: readonly Goal[] = [...EXECUTABLE, ...DOORS];
