// Modules that misuse the functions that they were given: descriptors that are not theirs, pointers
// that are not in their memory. Each says what the call must return, and must have changed nothing.

import {
  ERRNO_BADF,
  ERRNO_FAULT,
  ERRNO_INVAL,
  ERRNO_NOTCAPABLE,
} from "../../../host/runtime/errno.js";
import type { Right } from "../../../host/sandbox/manifest.js";
import { manifest, moduleWith } from "../../runtime/support.js";

/** The file behind every grant. */
export const CONTENTS = "what only a grant may read or write, and nobody else.\n";

/** Where the module keeps things, beside its windows. */
const RESULT = 512;
const IOVECS = 1024;
const BUFFER = 2048;
/** Bytes of BUFFER that are part of the reply. */
export const SHOWN_BYTES = 32;
/** End of the memory. */
const END = 64 * 65536;

const EFBIG = 22;

type Iovec = readonly [pointer: number, bytes: number];

/** One call of a WASI function; what is left out is as in a correct call that reads 16 bytes. */
export interface Call {
  /** Name of the test, behind "a module that". */
  name: string;
  function?: "fd_read" | "fd_write" | "fd_pread" | "fd_pwrite";
  fd?: number;
  iovecs?: readonly Iovec[];
  /** Address and number that the function is told. */
  at?: number;
  count?: number;
  result?: number;
  offset?: bigint;
  /** Rights granted on descriptor 3, reading if left out; null grants nothing. */
  rights?: readonly Right[] | null;
  /** What the call must return: an errno, or 0. */
  errno: number;
  /** What it must have read, if it succeeds. */
  bytes?: number;
}

const NEVER = [
  [0, "stdin"],
  [1, "stdout"],
  [2, "stderr"],
  [4, "the descriptor behind its only grant"],
  [5, "the number that its grant has outside"],
  [6, "a number that nobody has"],
  [0xffff_ffff, "-1"],
  [0x8000_0003, "its grant with the top bit set"],
] as const;

const forged: Call[] = [
  ...NEVER.map(([fd, what]) => ({
    name: `reads from ${what} gets EBADF`,
    fd: fd as number,
    errno: ERRNO_BADF,
  })),
  {
    name: "reads from what was not granted, and is the VMM's socket outside, gets EBADF",
    rights: null,
    errno: ERRNO_BADF,
  },
  { name: "writes to stdout gets EBADF", function: "fd_write", fd: 1, errno: ERRNO_BADF },
  {
    name: "writes where it may only read gets ENOTCAPABLE",
    function: "fd_write",
    errno: ERRNO_NOTCAPABLE,
  },
  {
    name: "writes at an offset where it may read gets ENOTCAPABLE",
    function: "fd_pwrite",
    errno: ERRNO_NOTCAPABLE,
  },
  {
    name: "reads where it may only write gets ENOTCAPABLE",
    rights: ["write"],
    errno: ERRNO_NOTCAPABLE,
  },
  {
    name: "reads at an offset where it may only write gets ENOTCAPABLE",
    function: "fd_pread",
    rights: ["write"],
    errno: ERRNO_NOTCAPABLE,
  },
];

const pointers: Call[] = [
  {
    name: "reads to an address outside its memory gets EFAULT",
    iovecs: [[0x7fff_ffff, 16]],
    errno: ERRNO_FAULT,
  },
  {
    name: "reads across the end of its memory gets EFAULT",
    iovecs: [[END - 8, 16]],
    errno: ERRNO_FAULT,
  },
  {
    name: "reads to an address that wraps 2^32 gets EFAULT",
    iovecs: [[0xffff_fff8, 16]],
    errno: ERRNO_FAULT,
  },
  {
    name: "reads to the last address there is gets EFAULT",
    iovecs: [[0xffff_ffff, 1]],
    errno: ERRNO_FAULT,
  },
  { name: "reads 4 GiB gets EFAULT", iovecs: [[0, 0xffff_ffff]], errno: ERRNO_FAULT },
  {
    name: "reads 4 GiB from 1, which wraps to nothing, gets EFAULT",
    iovecs: [[1, 0xffff_ffff]],
    errno: ERRNO_FAULT,
  },
  {
    name: "hides an address outside its memory behind an empty one gets EFAULT",
    iovecs: [
      [BUFFER, 0],
      [END, 16],
    ],
    errno: ERRNO_FAULT,
  },
  {
    name: "hides an address outside its memory behind a good one reads to the good one alone",
    iovecs: [
      [BUFFER, 16],
      [0xffff_0000, 16],
    ],
    errno: 0,
    bytes: 16,
  },
  {
    name: "reads to two places that overlap reads to the first alone",
    iovecs: [
      [BUFFER, 16],
      [BUFFER + 8, 16],
    ],
    errno: 0,
    bytes: 16,
  },
  { name: "passes iovecs outside its memory gets EFAULT", at: END, errno: ERRNO_FAULT },
  {
    name: "passes an iovec across the end of its memory gets EFAULT",
    at: END - 4,
    errno: ERRNO_FAULT,
  },
  {
    name: "passes iovecs that wrap 2^32 gets EFAULT",
    at: 0xffff_fff8,
    count: 2,
    errno: ERRNO_FAULT,
  },
  {
    name: "passes four thousand million iovecs gets EINVAL",
    count: 0xffff_ffff,
    errno: ERRNO_INVAL,
  },
  {
    name: "passes 2^29 iovecs, of 4 GiB together, gets EINVAL",
    count: 2 ** 29,
    errno: ERRNO_INVAL,
  },
  { name: "passes one iovec more than Linux takes gets EINVAL", count: 1025, errno: ERRNO_INVAL },
  {
    name: "passes more iovecs than fit behind their address gets EFAULT",
    at: END - 64,
    count: 9,
    errno: ERRNO_FAULT,
  },
  { name: "passes no iovec reads nothing", count: 0, errno: 0, bytes: 0 },
  { name: "wants the result outside its memory gets EFAULT", result: END, errno: ERRNO_FAULT },
  {
    name: "wants the result across the end of its memory gets EFAULT",
    result: END - 2,
    errno: ERRNO_FAULT,
  },
  { name: "wants the result at -1 gets EFAULT", result: 0xffff_ffff, errno: ERRNO_FAULT },
  {
    name: "wants the result over its iovecs reads where they pointed",
    result: IOVECS,
    errno: 0,
    bytes: 16,
  },
];

const offsets: Call[] = [
  { name: "reads at offset -1 gets EINVAL", function: "fd_pread", offset: -1n, errno: ERRNO_INVAL },
  {
    name: "reads at offset -2^63 gets EINVAL",
    function: "fd_pread",
    offset: -(2n ** 63n),
    errno: ERRNO_INVAL,
  },
  {
    name: "reads far behind the end reads nothing",
    function: "fd_pread",
    offset: 2n ** 62n,
    errno: 0,
    bytes: 0,
  },
  {
    name: "writes at offset -1 gets EINVAL",
    function: "fd_pwrite",
    offset: -1n,
    rights: ["read", "write"],
    errno: ERRNO_INVAL,
  },
  {
    name: "writes at 4 EiB, where no file ends, gets EFBIG",
    function: "fd_pwrite",
    offset: 2n ** 62n,
    rights: ["read", "write"],
    errno: EFBIG,
  },
];

export const CALLS: readonly Call[] = [...forged, ...pointers, ...offsets];

/** Imports all four functions, whatever the grant. */
const ASKING = manifest({
  capabilities: [{ name: "data", kind: "file", rights: ["read", "write"], required: false }],
});

function importOf(name: string, offset: string): string {
  const type = `(func $${name} (param i32 i32 i32 ${offset} i32) (result i32))`;
  return `(import "wasi_snapshot_preview1" "${name}" ${type})`;
}

const IMPORTED = [
  importOf("fd_read", ""),
  importOf("fd_write", ""),
  importOf("fd_pread", "i64"),
  importOf("fd_pwrite", "i64"),
].join("\n");

/** A module that makes the call for each request and replies: errno, then what is in BUFFER. */
export function moduleOf(call: Call): Uint8Array {
  const { fd = 3, iovecs = [[BUFFER, 16]], at = IOVECS, result = RESULT } = call;
  const { function: name = "fd_read", count = iovecs.length, offset = 0n } = call;
  const words = iovecs.flat().map((word, i) => {
    return `(i32.store (i32.const ${IOVECS + i * 4}) (i32.const ${word}))`;
  });
  const where = name.startsWith("fd_p") ? `(i64.const ${offset})` : "";
  const serve = `(func (export "serve") (param i32 i32 i32 i32 i32) (result i32)
    ${words.join("\n")}
    (i32.store (local.get 3) (call $${name}
      (i32.const ${fd}) (i32.const ${at}) (i32.const ${count}) ${where} (i32.const ${result})))
    (memory.copy
      (i32.add (local.get 3) (i32.const 4)) (i32.const ${BUFFER}) (i32.const ${SHOWN_BYTES}))
    (i32.const ${4 + SHOWN_BYTES}))`;
  return moduleWith({ imports: IMPORTED, serve }, ASKING);
}
