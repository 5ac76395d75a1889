// The C library, called through koffi. Functions here are the raw calls: they return what the C
// function returns (-1 on failure, then `errno()` tells why); `checked()` turns a failure into a
// VmmError. Addresses are plain numbers (user space is below 2^47): whoever passes one keeps the
// memory alive and unmoved until the call returns.

import { createRequire } from "node:module";
import type koffiTypes from "koffi";
import { type ErrorCode, errnoName, VmmError } from "../errors.js";

// koffi's own loader reads ELF headers to choose among its binaries, 7 ms in each thread and
// process of ours; the package of the one platform that Bulkhead runs on is a dependency of its own
// instead.
const require = createRequire(import.meta.url);
const koffi: typeof koffiTypes = require("@koromix/koffi-linux-x64/linux_x64/koffi.node");
const lib = koffi.load("libc.so.6");

type Call<A extends unknown[], R = number> = (...args: A) => R;
type N = number;
type W = number | bigint;

function define<A extends unknown[], R = number>(prototype: string): Call<A, R> {
  return lib.func(prototype) as unknown as Call<A, R>;
}

export const close = define<[fd: N]>("int close(int fd)");
export const open = define<[path: string, flags: N, mode: N]>(
  "int open(const char *path, int flags, unsigned int mode)",
);
export const read = define<[fd: N, address: N, bytes: N]>(
  "intptr_t read(int fd, uintptr_t buf, size_t count)",
);
export const write = define<[fd: N, address: N, bytes: N]>(
  "intptr_t write(int fd, uintptr_t buf, size_t count)",
);
export const pread64 = define<[fd: N, address: N, bytes: N, offset: N | bigint]>(
  "intptr_t pread64(int fd, uintptr_t buf, size_t count, int64_t offset)",
);
export const pwrite64 = define<[fd: N, address: N, bytes: N, offset: N | bigint]>(
  "intptr_t pwrite64(int fd, uintptr_t buf, size_t count, int64_t offset)",
);
export const ioctl = define<[fd: N, request: N, argument: N]>(
  "int ioctl(int fd, unsigned long request, uintptr_t argument)",
);
/**
 * The same in a thread of koffi's, for a call that waits long; its errno is lost. The caller keeps
 * what `argument` points to as it is until then.
 */
export function ioctlAside(fd: number, request: number, argument: number): Promise<number> {
  const call = ioctl as unknown as { async(...args: unknown[]): void };
  return new Promise((resolve, reject) => {
    call.async(fd, request, argument, (error: Error | null, result: number) => {
      if (error === null) resolve(result);
      else reject(error);
    });
  });
}
export const fcntl = define<[fd: N, command: N, argument: N]>(
  "int fcntl(int fd, int command, uintptr_t argument)",
);
export const mmap = define<[address: N, bytes: N, prot: N, flags: N, fd: N, offset: N]>(
  "intptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)",
);
export const munmap = define<[address: N, bytes: N]>("int munmap(uintptr_t addr, size_t length)");
export const mprotect = define<[address: N, bytes: N, prot: N]>(
  "int mprotect(uintptr_t addr, size_t length, int prot)",
);
export const memfd_create = define<[name: string, flags: N]>(
  "int memfd_create(const char *name, unsigned int flags)",
);
export const ftruncate = define<[fd: N, bytes: W]>("int ftruncate(int fd, int64_t length)");
export const eventfd = define<[initial: N, flags: N]>(
  "int eventfd(unsigned int initval, int flags)",
);
export const epoll_create1 = define<[flags: N]>("int epoll_create1(int flags)");
export const epoll_ctl = define<[epfd: N, op: N, fd: N, event: N]>(
  "int epoll_ctl(int epfd, int op, int fd, uintptr_t event)",
);
export const epoll_wait = define<[epfd: N, events: N, count: N, timeoutMs: N]>(
  "int epoll_wait(int epfd, uintptr_t events, int maxevents, int timeout)",
);
export const poll = define<[fds: N, count: N, timeoutMs: N]>(
  "int poll(uintptr_t fds, unsigned long nfds, int timeout)",
);
/** `timeout` and `sigmask` are addresses of structs, or 0: for ever, and no change. */
export const ppoll = define<[fds: N, count: N, timeout: N, sigmask: N]>(
  "int ppoll(uintptr_t fds, unsigned long nfds, uintptr_t tmo_p, uintptr_t sigmask)",
);
export const socketpair = define<[domain: N, type: N, protocol: N, sv: N]>(
  "int socketpair(int domain, int type, int protocol, uintptr_t sv)",
);
export const sendmsg = define<[fd: N, msghdr: N, flags: N]>(
  "intptr_t sendmsg(int fd, uintptr_t msg, int flags)",
);
export const recvmsg = define<[fd: N, msghdr: N, flags: N]>(
  "intptr_t recvmsg(int fd, uintptr_t msg, int flags)",
);
export const recv = define<[fd: N, address: N, bytes: N, flags: N]>(
  "intptr_t recv(int fd, uintptr_t buf, size_t len, int flags)",
);
export const setsockopt = define<[fd: N, level: N, option: N, value: N, bytes: N]>(
  "int setsockopt(int fd, int level, int optname, uintptr_t optval, unsigned int optlen)",
);
/** `bytes` is the address of a socklen_t. */
export const getsockopt = define<[fd: N, level: N, option: N, value: N, bytes: N]>(
  "int getsockopt(int fd, int level, int optname, uintptr_t optval, uintptr_t optlen)",
);
export const memcpy = define<[to: N, from: N, bytes: N]>(
  "uintptr_t memcpy(uintptr_t dest, uintptr_t src, size_t n)",
);
export const mallopt = define<[param: N, value: N]>("int mallopt(int param, int value)");
export const prctl = define<[option: N, a: N, b: N, c: N, d: N]>(
  "int prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)",
);
/** `timespec` is the address of 16 bytes: seconds, nanoseconds. */
export const clock_gettime = define<[clockid: N, timespec: N]>(
  "int clock_gettime(int clockid, uintptr_t tp)",
);
export const sched_yield = define<[]>("int sched_yield()");
export const gettid = define<[]>("int gettid()");
export const getppid = define<[]>("int getppid()");
export const tgkill = define<[tgid: N, tid: N, signal: N]>(
  "int tgkill(int tgid, int tid, int sig)",
);
/** Any system call; bigints are for arguments of which all 64 bits matter. */
export const syscall = define<[nr: W, a: W, b: W, c: W, d: W, e: W, f: W]>(
  "long syscall(long nr, uintptr_t a, uintptr_t b, uintptr_t c, " +
    "uintptr_t d, uintptr_t e, uintptr_t f)",
);
const dlsym = define<[handle: N, symbol: string]>(
  "uintptr_t dlsym(intptr_t handle, const char *symbol)",
);
/** RTLD_DEFAULT (dlfcn.h). */
const RTLD_DEFAULT = 0;
/** Address of a function of the C library; 0 if there is none of that name. */
export function symbolAddress(symbol: string): number {
  return dlsym(RTLD_DEFAULT, symbol);
}
const codeAtAddress = koffi.proto("long codeAtAddress(uintptr_t argument)");
/** Calls the function `long f(void *argument)` at `address`: the caller vouches for its code. */
export function callAt(address: number, argument: number): number {
  return koffi.call(BigInt(address), codeAtAddress, argument);
}
/** Ends the process at once, all threads, without running any exit handler (exit_group(2)). */
export const _exit = define<[status: N], never>("void _exit(int status)");

/** errno of the last failed call on this thread. */
export function errno(): number {
  return koffi.errno();
}

/**
 * Returns `result` unless it is -1; then throws a VmmError that names the action.
 *
 * @param action what was tried, as the start of the message: `Cannot create an eventfd`
 */
export function checked(
  result: number,
  syscall: string,
  action: string,
  code: ErrorCode = "ERR_SYSCALL",
): number {
  if (result !== -1) return result;
  const number = errno();
  throw new VmmError(code, `${action}: ${syscall}: ${errnoName(number)}`, {
    errno: number,
    syscall,
  });
}

/**
 * The memory at `address` as an ArrayBuffer that shares it, for this thread. The caller keeps the
 * mapping alive as long as the view. koffi aborts the process above 4 GiB, so map more as several.
 */
export function viewOf(address: number, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes);
}

/**
 * Address of the first byte of `buffer`. It is good for as long as the bytes cannot move: Wasm
 * memory never does, an ordinary ArrayBuffer may when the garbage collector runs.
 */
export function addressOf(buffer: ArrayBuffer): number {
  return Number(koffi.address(buffer));
}
