// Constants of the kernel's headers, under their own names; a test compares every one with cc.

/** "nobody", the user and group that own nothing. */
export const NOBODY = 65534;

/** linux/prctl.h */
export const PRCTL = {
  PR_SET_PDEATHSIG: 1,
  PR_GET_DUMPABLE: 3,
  PR_SET_DUMPABLE: 4,
  PR_SET_SECUREBITS: 28,
  PR_SET_NO_NEW_PRIVS: 38,
} as const;

/** linux/seccomp.h */
export const SECCOMP = {
  SECCOMP_SET_MODE_FILTER: 1,
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_NEW_LISTENER: 8,
  SECCOMP_FILTER_FLAG_TSYNC_ESRCH: 16,
} as const;

/** linux/landlock.h; a test knows which of them older headers do not have. */
export const LANDLOCK = {
  LANDLOCK_CREATE_RULESET_VERSION: 1,
  LANDLOCK_RULE_PATH_BENEATH: 1,
  LANDLOCK_RESTRICT_SELF_TSYNC: 8,
  LANDLOCK_ACCESS_FS_EXECUTE: 0x1,
  LANDLOCK_ACCESS_FS_WRITE_FILE: 0x2,
  LANDLOCK_ACCESS_FS_READ_FILE: 0x4,
  LANDLOCK_ACCESS_FS_READ_DIR: 0x8,
  LANDLOCK_ACCESS_FS_REMOVE_FILE: 0x20,
  LANDLOCK_ACCESS_FS_MAKE_REG: 0x100,
  LANDLOCK_ACCESS_FS_MAKE_SYM: 0x1000,
  LANDLOCK_ACCESS_FS_REFER: 0x2000,
  LANDLOCK_ACCESS_FS_TRUNCATE: 0x4000,
  LANDLOCK_ACCESS_FS_IOCTL_DEV: 0x8000,
  LANDLOCK_ACCESS_FS_RESOLVE_UNIX: 0x1_0000,
  LANDLOCK_ACCESS_NET_BIND_TCP: 1,
  LANDLOCK_ACCESS_NET_CONNECT_TCP: 2,
  LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: 1,
  LANDLOCK_SCOPE_SIGNAL: 2,
} as const;

/** asm-generic/resource.h */
export const RLIMIT = {
  RLIMIT_FSIZE: 1,
  RLIMIT_DATA: 2,
  RLIMIT_CORE: 4,
  RLIMIT_NPROC: 6,
  RLIMIT_NOFILE: 7,
  RLIMIT_MEMLOCK: 8,
  RLIMIT_AS: 9,
  RLIMIT_SIGPENDING: 11,
  RLIMIT_MSGQUEUE: 12,
} as const;

/** linux/sched.h */
export const CLONE = {
  CLONE_VM: 0x0000_0100,
  CLONE_VFORK: 0x0000_4000,
  CLONE_NEWNS: 0x0002_0000,
  CLONE_NEWCGROUP: 0x0200_0000,
  CLONE_NEWUTS: 0x0400_0000,
  CLONE_NEWIPC: 0x0800_0000,
  CLONE_NEWUSER: 0x1000_0000,
  CLONE_NEWPID: 0x2000_0000,
  CLONE_NEWNET: 0x4000_0000,
} as const;

/** linux/sched.h: how a process shares the processor. */
export const SCHED = { SCHED_NORMAL: 0, SCHED_BATCH: 3 } as const;

/** linux/securebits.h: being root in a namespace means nothing, and none of this can be undone. */
export const SECUREBITS = {
  SECBIT_NOROOT: 0x01,
  SECBIT_NOROOT_LOCKED: 0x02,
  SECBIT_NO_SETUID_FIXUP: 0x04,
  SECBIT_NO_SETUID_FIXUP_LOCKED: 0x08,
  SECBIT_KEEP_CAPS_LOCKED: 0x20,
  SECBIT_NO_CAP_AMBIENT_RAISE: 0x40,
  SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED: 0x80,
} as const;

/** ioctl(2) requests of asm-generic/ioctls.h and linux/sockios.h */
export const IOCTL = {
  TCGETS: 0x5401,
  TCSETS: 0x5402,
  TCSETSW: 0x5403,
  /** Bytes that were sent and that the peer has not read. */
  SIOCOUTQ: 0x5411,
  TIOCGWINSZ: 0x5413,
  TIOCSWINSZ: 0x5414,
  TIOCSPTLCK: 0x4004_5431,
  TIOCGPTPEER: 0x5441,
  /** linux/fs.h: bytes of a block device. */
  BLKGETSIZE64: 0x8008_1272,
} as const;

/** linux/if_tun.h */
export const TUN = {
  TUNSETIFF: 0x4004_54ca,
  IFF_TAP: 0x2,
  IFF_NO_PI: 0x1000,
} as const;

/** linux/mount.h */
export const MOUNT = {
  MS_RDONLY: 0x1,
  MS_NOSUID: 0x2,
  MS_NODEV: 0x4,
  MS_BIND: 0x1000,
  MS_REC: 0x4000,
  MS_PRIVATE: 0x4_0000,
  MOUNT_ATTR_RDONLY: 0x1,
  MOUNT_ATTR_NOSUID: 0x2,
  MOUNT_ATTR_NODEV: 0x4,
  MOUNT_ATTR_NOEXEC: 0x8,
  MOUNT_ATTR_NOSYMFOLLOW: 0x20_0000,
  OPEN_TREE_CLONE: 1,
} as const;

/** sys/mount.h */
export const MNT_DETACH = 2;

/** linux/fcntl.h */
export const FCNTL = {
  F_DUPFD_CLOEXEC: 1030,
  F_GETFD: 1,
  O_CLOEXEC: 0o2000000,
  O_PATH: 0o10000000,
  F_GETFL: 3,
  F_SETFL: 4,
  F_OFD_GETLK: 36,
  F_OFD_SETLK: 37,
  F_RDLCK: 0,
  F_WRLCK: 1,
  F_UNLCK: 2,
  AT_FDCWD: -100,
  AT_RECURSIVE: 0x8000,
  AT_EMPTY_PATH: 0x1000,
} as const;

/** asm/signal.h */
export const SIGNAL = {
  SIG_DFL: 0,
  SIG_IGN: 1,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGCHLD: 17,
  SIGCONT: 18,
  SIGSTOP: 19,
  SIGSYS: 31,
  SA_RESTORER: 0x0400_0000,
} as const;

/** The highest signal: SIGRTMAX of signal.h. */
export const SIGNAL_MAX = 64;

/** linux/capability.h */
export const CAPABILITY = {
  CAP_SYS_ADMIN: 21,
  _LINUX_CAPABILITY_VERSION_3: 0x2008_0522,
} as const;

/** linux/ptrace.h */
export const PTRACE = {
  PTRACE_DETACH: 17,
  PTRACE_SEIZE: 0x4206,
  PTRACE_INTERRUPT: 0x4207,
  PTRACE_SECCOMP_GET_FILTER: 0x420c,
} as const;

/** linux/wait.h, and what it finds (asm-generic/siginfo.h) */
export const WAIT = {
  P_PID: 1,
  WNOHANG: 1,
  WSTOPPED: 2,
  WEXITED: 4,
  WNOWAIT: 0x0100_0000,
  __WALL: 0x4000_0000,
  CLD_TRAPPED: 4,
} as const;

/** All bits of a group of constants. */
export function allBits(group: Readonly<Record<string, number>>): number {
  return Object.values(group).reduce((all, bit) => all | bit, 0);
}
