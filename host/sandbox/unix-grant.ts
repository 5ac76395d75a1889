// Unix sockets that are granted: connected, or listening, before the device's process exists, which
// can do neither.

import { closeSync, fchmodSync, lstatSync, unlinkSync } from "node:fs";
import { errnoName } from "../errors.js";
import { errno, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { grantError, type ResolvedGrant, type SocketFile } from "./grants.js";
import { syscallNumber } from "./syscalls.js";

/** sys/socket.h */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
/** struct sockaddr_un (linux/un.h): sun_family, sun_path with a NUL at its end. */
const SUN_PATH_BYTES = 108;
const SOCKADDR_UN_BYTES = 2 + SUN_PATH_BYTES;
/** Who connects while another is served waits; the kernel turns away those beyond. */
const BACKLOG = 4;
/** Nobody but this user may connect. */
const MODE = 0o600;
const ECONNREFUSED = 111;
const EADDRINUSE = 98;

type Call = "bind" | "connect";

function fault({ name, kind, what }: ResolvedGrant, cause: string): Error {
  return grantError(`Cannot grant ${name}=${kind}:${what}: ${cause}`);
}

/** Calls bind(2) or connect(2) with the path as its address: 0, or an errno. */
function withAddress(call: Call, fd: number, path: Uint8Array): number {
  const address = Mapping.anonymous(SOCKADDR_UN_BYTES);
  address.view.setUint16(0, AF_UNIX, true);
  new Uint8Array(address.view.buffer).set(path, 2);
  const nr = syscallNumber(call);
  const result = syscall(nr, fd, address.address, SOCKADDR_UN_BYTES, 0, 0, 0);
  const number = result === 0 ? 0 : errno();
  address.close();
  return number;
}

function pathOf(grant: ResolvedGrant): Uint8Array {
  const path = new TextEncoder().encode(grant.what);
  if (path.length < SUN_PATH_BYTES) return path;
  const most = `${SUN_PATH_BYTES - 1} is the most for a socket`;
  throw fault(grant, `its path has ${path.length} bytes, ${most}`);
}

/** A socket that reads and writes without waiting. */
function socket(grant: ResolvedGrant): number {
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = syscall(syscallNumber("socket"), AF_UNIX, type, 0, 0, 0, 0);
  if (fd < 0) throw fault(grant, `socket: ${errnoName(errno())}`);
  return fd;
}

/** Runs `use` with a new socket, which is closed if that throws. */
function withSocket<T>(grant: ResolvedGrant, use: (fd: number) => T): T {
  const fd = socket(grant);
  try {
    return use(fd);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

const CONNECT_CAUSES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket, start what listens there first",
  ECONNREFUSED: "nobody listens there",
  EACCES: "this user may not connect to it",
  EWOULDBLOCK: "too many wait to be served there",
  EPROTOTYPE: "it is no stream socket",
};

/** A connection to the socket at a path. */
function connect(grant: ResolvedGrant): { fd: number } {
  return withSocket(grant, (fd) => {
    const number = withAddress("connect", fd, pathOf(grant));
    if (number === 0) return { fd };
    const name = errnoName(number);
    throw fault(grant, `${name}, ${CONNECT_CAUSES[name] ?? "cannot connect"}`);
  });
}

/** Removes what an earlier listener left behind; whoever still listens there is left alone. */
function removeStale(grant: ResolvedGrant): void {
  if (!lstatSync(grant.what).isSocket())
    throw fault(grant, "EADDRINUSE, it is there and no socket");
  const found = withSocket(grant, (fd) => {
    const number = withAddress("connect", fd, pathOf(grant));
    closeSync(fd);
    return number;
  });
  if (found !== ECONNREFUSED) throw fault(grant, "EADDRINUSE, somebody else listens there");
  unlinkSync(grant.what);
}

function bind(grant: ResolvedGrant, fd: number): void {
  let number = withAddress("bind", fd, pathOf(grant));
  if (number === EADDRINUSE) {
    removeStale(grant);
    number = withAddress("bind", fd, pathOf(grant));
  }
  if (number !== 0) throw fault(grant, `bind: ${errnoName(number)}`);
}

/** A socket that others of this user connect to, at a path that it takes. */
function listen(grant: ResolvedGrant): { fd: number; socketFile: SocketFile } {
  return withSocket(grant, (fd) => {
    // Before it has a name: afterwards there would be a moment in which anybody may connect.
    fchmodSync(fd, MODE);
    bind(grant, fd);
    const { dev, ino } = lstatSync(grant.what);
    const socketFile = { path: grant.what, dev, ino };
    if (syscall(syscallNumber("listen"), fd, BACKLOG, 0, 0, 0, 0) === 0) return { fd, socketFile };
    const name = errnoName(errno());
    removeSocketFile(socketFile);
    throw fault(grant, `listen: ${name}`);
  });
}

/** Opens a grant of kind `unix`. */
export function openUnix(grant: ResolvedGrant): { fd: number; socketFile?: SocketFile } {
  return grant.rights.includes("listen") ? listen(grant) : connect(grant);
}

/** Removes the file of a listening socket, unless there is another one of that name by now. */
export function removeSocketFile({ path, dev, ino }: SocketFile): void {
  try {
    const found = lstatSync(path);
    if (found.dev === dev && found.ino === ino) unlinkSync(path);
  } catch {
    // Somebody removed it, or its directory.
  }
}
