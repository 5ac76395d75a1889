// One grant, three walls. Everything that a granted capability means is one row of one table: what
// may be granted and with which rights, the functions that link inside Wasm, and for each of those
// the system calls that the process may make, on that descriptor and no other. There is no second
// list to keep in step: a new kind of capability is a new row, and a function that opens it
// (grant-open.ts).

import { IOCTL } from "./linux.js";

/** What a device may do with a grant; `append` writes at the end of a file and nowhere else. */
export const RIGHTS = ["read", "write", "append", "connect", "listen"] as const;
export type Right = (typeof RIGHTS)[number];

/** A system call that takes the granted descriptor as its first argument. */
export interface GrantedCall {
  syscall: string;
  reason: string;
  /** Its descriptor is not the granted one, but a connection or a file that came of it. */
  onOpened?: true;
  /** All 64 bits of the descriptor count, so that a close at the lock-down is none (denial.ts). */
  isWhole?: true;
  /** All 64 bits of other arguments, by their number. */
  exactly?: Readonly<Record<number, number>>;
  /** Bits of other arguments, by their number: those that must be set, and those that may. */
  masked?: Readonly<Record<number, { must: number; may: number }>>;
}

/** Functions of WASI by name, and what each of them needs outside. */
type Links = Readonly<Record<string, readonly GrantedCall[]>>;

interface KindRow {
  /** What WHAT can be: a name for any path, or all words that there are. */
  what: "PATH" | "IFNAME" | readonly string[];
  /** WHAT may not be there yet, or is no file at all: only opening it tells. */
  isMade?: true;
  /** WHAT is a directory; the process gets a mount of its own of it (namespaces.ts). */
  isDirectory?: true;
  /** No descriptor stands for it. */
  isBare?: true;
  /**
   * Rights with which it stays open for as long as the VM, while the device's processes come and
   * go: nobody who connects in between is turned away.
   */
  stays?: readonly Right[];
  /**
   * A device may wait until it can be read or written. Not for a file: that always can, and a
   * device that waits for it would never sleep.
   */
  isAwaitable?: true;
  /** RIGHTS of the command line; without any it is the first. `""` stands for no word at all. */
  words: Readonly<Record<string, readonly Right[]>>;
  /** By right: what of the capability's functions it lets the module use. */
  links: Partial<Record<Right, Links>>;
}

const READ = "the module reads this grant from its position";
const WRITE = "the module writes this grant at its position";

const filestat: Links = {
  fd_filestat_get: [{ syscall: "fstat", reason: "the module asks how large this grant is" }],
};
const sync: Links = {
  fd_datasync: [{ syscall: "fdatasync", reason: "what the module wrote reaches the disk" }],
  fd_sync: [{ syscall: "fsync", reason: "what the module wrote and the size reach the disk" }],
};
const write: Links = { fd_write: [{ syscall: "write", reason: WRITE }] };

/** bits/socket_type.h: SOCK_NONBLOCK | SOCK_CLOEXEC. */
export const ACCEPTED_FLAGS = 0o2004000;

const windowSize: Links = {
  fd_filestat_get: [
    {
      syscall: "ioctl",
      exactly: { 1: IOCTL.TIOCGWINSZ },
      reason: "the module asks how many rows and columns there are",
    },
  ],
};
const terminal = {
  read: {
    fd_read: [{ syscall: "read", reason: "the module reads what is typed" }],
    ...windowSize,
  },
  write: {
    fd_write: [{ syscall: "write", reason: "the module writes to the terminal" }],
    ...windowSize,
  },
} as const satisfies Partial<Record<Right, Links>>;

const packets: Links = {
  fd_read: [{ syscall: "read", reason: "the module takes a packet of the host" }],
  fd_write: [{ syscall: "write", reason: "the module gives the host a packet" }],
};

const stream: Links = {
  fd_read: [{ syscall: "read", reason: "the module reads what its peer sent" }],
  fd_write: [{ syscall: "write", reason: "the module sends to its peer" }],
};
const accepted: Links = {
  sock_accept: [
    {
      syscall: "accept4",
      reason: "somebody connects to the module, and who that is it does not learn",
      exactly: { 1: 0, 2: 0, 3: ACCEPTED_FLAGS },
    },
  ],
  fd_read: [{ syscall: "read", onOpened: true, reason: "the module reads what it is sent" }],
  fd_write: [{ syscall: "write", onOpened: true, reason: "the module answers" }],
  fd_close: [
    {
      syscall: "close",
      onOpened: true,
      isWhole: true,
      reason: "the module is done, and takes the next",
    },
  ],
};

/** asm-generic/fcntl.h */
const O_WRONLY = 0o1;
const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_EXCL = 0o200;
const O_NOCTTY = 0o400;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_NONBLOCK = 0o4000;
const O_DIRECTORY = 0o200000;
const O_NOFOLLOW = 0o400000;
const O_CLOEXEC = 0o2000000;

/**
 * How files of a directory are opened: no link is followed, and nothing that is no file is waited
 * for.
 */
export const DIRECTORY_OPEN_FLAGS = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
/** Mode of a file that a device makes. */
export const DIRECTORY_FILE_MODE = 0o644;
/** Files of one directory that are open at a time; each needs a descriptor known beforehand. */
export const DIRECTORY_FILES_MAX = 8;

/** A path is in memory, where no filter looks: where it leads to is the mount's to say. */
function opens(may: number): GrantedCall[] {
  return [
    {
      syscall: "openat",
      reason: "the module opens a file in this directory",
      masked: { 2: { must: DIRECTORY_OPEN_FLAGS, may } },
      exactly: { 3: DIRECTORY_FILE_MODE },
    },
    { syscall: "fstat", onOpened: true, reason: "is what was opened a file or a directory?" },
    closes("what was opened is closed"),
  ];
}

function closes(reason: string): GrantedCall {
  return { syscall: "close", onOpened: true, isWhole: true, reason };
}

function onFile(syscall: string, what: string): GrantedCall[] {
  return [{ syscall, onOpened: true, reason: `the module ${what}` }];
}

export const GRANT_KINDS = {
  file: {
    what: "PATH",
    words: { ro: ["read"], wo: ["write"], rw: ["read", "write"], ap: ["append"] },
    links: {
      read: {
        fd_read: [{ syscall: "read", reason: READ }],
        fd_pread: [{ syscall: "pread64", reason: "the module reads this grant at an offset" }],
        ...filestat,
      },
      write: {
        ...write,
        fd_pwrite: [{ syscall: "pwrite64", reason: "the module writes this grant at an offset" }],
        ...filestat,
        ...sync,
        fd_filestat_set_size: [
          { syscall: "ftruncate", reason: "the module makes this grant larger or smaller" },
        ],
      },
      append: { ...write, ...filestat, ...sync },
    },
  },
  dir: {
    what: "PATH",
    isDirectory: true,
    words: { ro: ["read"], rw: ["read", "write"] },
    links: {
      read: {
        path_open: opens(O_DIRECTORY),
        fd_read: onFile("read", "reads a file that it opened"),
        fd_pread: onFile("pread64", "reads a file that it opened"),
        fd_filestat_get: onFile("fstat", "asks how large a file is that it opened"),
        fd_readdir: onFile("getdents64", "lists a directory that it opened"),
        fd_close: [closes("the module is done with what it opened")],
      },
      write: {
        path_open: opens(O_DIRECTORY | O_WRONLY | O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_APPEND),
        fd_write: onFile("write", "writes a file that it opened"),
        fd_pwrite: onFile("pwrite64", "writes a file that it opened"),
        fd_datasync: onFile("fdatasync", "has what it wrote reach the disk"),
        fd_filestat_set_size: onFile("ftruncate", "makes a file larger or smaller"),
        path_unlink_file: [
          {
            syscall: "unlinkat",
            reason: "the module removes a file of this directory",
            exactly: { 2: 0 },
          },
        ],
      },
    },
  },
  // Every process may read both clocks, so this wall is the link's alone
  // (wasi_snapshot_preview1.ts). The time of day includes the monotonic clock.
  clock: {
    what: ["monotonic", "realtime"],
    isBare: true,
    words: { "": ["read"] },
    links: { read: { clock_time_get: [] } },
  },
  unix: {
    what: "PATH",
    isMade: true,
    isAwaitable: true,
    stays: ["listen"],
    words: { connect: ["connect"], listen: ["listen"] },
    links: { connect: stream, listen: accepted },
  },
  tty: {
    what: "PATH",
    isAwaitable: true,
    words: { ro: ["read"], wo: ["write"], rw: ["read", "write"] },
    links: terminal,
  },
  tap: {
    what: "IFNAME",
    isMade: true,
    isAwaitable: true,
    stays: ["read", "write"],
    words: { "": ["read", "write"] },
    links: { read: packets, write: packets },
  },
  random: {
    what: ["urandom"],
    words: { "": ["read"] },
    links: {
      read: { random_get: [{ syscall: "read", reason: "the module asks for random bytes" }] },
    },
  },
} as const satisfies Record<string, KindRow>;

export type GrantKind = keyof typeof GRANT_KINDS;

/** Names of all kinds, in the order of the table. */
export const GRANT_KIND_NAMES = Object.keys(GRANT_KINDS) as GrantKind[];

export function kindRow(kind: GrantKind): KindRow {
  return GRANT_KINDS[kind];
}

/** All rights that a grant of this kind can have. */
export function rightsOf(kind: GrantKind): Right[] {
  return RIGHTS.filter((right) => kindRow(kind).links[right] !== undefined);
}

/** What a user types after `--grant ID.NAME=`, for each choice of rights. */
export function formsOf(kind: GrantKind): string[] {
  const { what, words } = kindRow(kind);
  const names = typeof what === "string" ? [what] : what;
  const ends = Object.keys(words).map((word) => (word === "" ? "" : `:${word}`));
  return names.flatMap((name) => ends.map((end) => `${kind}:${name}${end}`));
}

/** Some WHAT of this kind. */
export function exampleOf(kind: GrantKind): string {
  const { what } = kindRow(kind);
  return typeof what === "string" ? what : what[0]!;
}

/** A network interface as Linux names it (dev_valid_name(), net/core/dev.c). */
const IFNAME = /^(?!\.{1,2}$)[^\s/:]{1,15}$/;

/** Why nothing of that kind is called `what`; undefined if something may be. */
export function faultOfWhat(kind: GrantKind, what: string): string | undefined {
  const { what: names } = kindRow(kind);
  if (names === "IFNAME" && !IFNAME.test(what)) return "no interface can have that name";
  if (typeof names === "string" || names.includes(what)) return undefined;
  return `there is no such ${kind}`;
}

/** All words for rights that there are, of any kind. */
const WORDS = new Set(
  GRANT_KIND_NAMES.flatMap((kind) => Object.keys(kindRow(kind).words)).filter(
    (word) => word !== "",
  ),
);

/**
 * The rights that a word of the command line stands for; without a word, the first of the kind.
 *
 * @returns null for a word that is one of another kind, undefined for what is none at all
 */
export function rightsOfWord(kind: GrantKind, word?: string): Right[] | null | undefined {
  const { words } = kindRow(kind);
  if (word === undefined) return [...Object.values(words)[0]!];
  if (word !== "" && Object.hasOwn(words, word)) return [...words[word]!];
  return WORDS.has(word) ? null : undefined;
}

/** The word for these rights; where none has all of them, the first that has some. */
export function wordOfRights(kind: GrantKind, rights: readonly Right[]): string {
  const words = Object.entries(kindRow(kind).words);
  const within = words.filter(([, all]) => all.every((right) => rights.includes(right)));
  const [best] = within.sort(([, a], [, b]) => b.length - a.length);
  return best?.[0] ?? "";
}

/**
 * The functions that these rights link, and what each of them needs outside. Where two rights need
 * the same call, the later one of RIGHTS says how: it allows what the other does, and more.
 */
export function linksOf(kind: GrantKind, rights: readonly Right[]): Map<string, GrantedCall[]> {
  const { links } = kindRow(kind);
  const linked = new Map<string, GrantedCall[]>();
  for (const right of RIGHTS) {
    if (!rights.includes(right)) continue;
    for (const [name, calls] of Object.entries(links[right] ?? {})) {
      const isSaid = ({ syscall }: GrantedCall) => calls.some((call) => call.syscall === syscall);
      const others = (linked.get(name) ?? []).filter((call) => !isSaid(call));
      linked.set(name, [...calls, ...others]);
    }
  }
  return linked;
}
