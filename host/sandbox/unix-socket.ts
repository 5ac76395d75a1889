// Stream sockets at paths, made by raw calls: in one moment rather than in several turns of an
// event loop, and for processes that can make none later.

import { closeSync, fchmodSync, lstatSync, unlinkSync } from "node:fs";
import { errnoName } from "../errors.js";
import { checked, errno, getsockopt, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { SOL_SOCKET } from "../ffi/socket.js";
import type { SocketFile } from "./grants.js";
import { syscallNumber } from "./syscalls.js";

/** sys/socket.h */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
/** asm-generic/socket.h */
export const SO_PEERCRED = 17;
/** struct ucred: pid, uid, gid (linux/socket.h). */
const UCRED_BYTES = 12;
/** struct sockaddr_un (linux/un.h): sun_family, sun_path with a NUL at its end. */
const SUN_PATH_BYTES = 108;
const SOCKADDR_UN_BYTES = 2 + SUN_PATH_BYTES;
/** Nobody but this user may connect. */
const MODE = 0o600;
const ECONNREFUSED = 111;
const EADDRINUSE = 98;

type Call = "bind" | "connect";

/** Where a socket is or shall be, and how its user hears of what is wrong with that. */
export interface Place {
  path: string;
  /** Why it cannot be taken when somebody listens there; has a default. */
  taken?: string;
  fault(cause: string): Error;
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

function pathOf(place: Place): Uint8Array {
  const path = new TextEncoder().encode(place.path);
  if (path.length < SUN_PATH_BYTES) return path;
  const most = `${SUN_PATH_BYTES - 1} is the most for a socket`;
  throw place.fault(`its path has ${path.length} bytes, ${most}`);
}

/** A socket that reads and writes without waiting. */
function socket(place: Place): number {
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = syscall(syscallNumber("socket"), AF_UNIX, type, 0, 0, 0, 0);
  if (fd < 0) throw place.fault(`socket: ${errnoName(errno())}`);
  return fd;
}

/** Runs `use` with a new socket, which is closed if that throws. */
function withSocket<T>(place: Place, use: (fd: number) => T): T {
  const fd = socket(place);
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

/** Descriptor of a connection to the socket at a path. */
export function connectTo(place: Place): number {
  return withSocket(place, (fd) => {
    const number = withAddress("connect", fd, pathOf(place));
    if (number === 0) return fd;
    const name = errnoName(number);
    throw place.fault(`${name}, ${CONNECT_CAUSES[name] ?? "cannot connect"}`);
  });
}

/** Whether the socket at a path is one that an earlier listener left behind. */
export function isStale(place: Place): boolean {
  return withSocket(place, (fd) => {
    const number = withAddress("connect", fd, pathOf(place));
    closeSync(fd);
    return number === ECONNREFUSED;
  });
}

/** Removes what an earlier listener left behind; whoever still listens there is left alone. */
function removeStale(place: Place): void {
  const { path, taken = "EADDRINUSE, somebody else listens there" } = place;
  if (!lstatSync(path).isSocket()) throw place.fault("EADDRINUSE, it is there and no socket");
  if (!isStale(place)) throw place.fault(taken);
  unlinkSync(path);
}

function bind(place: Place, fd: number): void {
  let number = withAddress("bind", fd, pathOf(place));
  if (number === EADDRINUSE) {
    removeStale(place);
    number = withAddress("bind", fd, pathOf(place));
  }
  if (number !== 0) throw place.fault(`bind: ${errnoName(number)}`);
}

/**
 * A socket that others of this user connect to, at a path that it takes.
 *
 * @param backlog connections that wait to be accepted; the kernel turns away those beyond
 */
export function listenAt(place: Place, backlog: number): { fd: number; socketFile: SocketFile } {
  return withSocket(place, (fd) => {
    // Before it has a name: afterwards there would be a moment in which anybody may connect.
    fchmodSync(fd, MODE);
    bind(place, fd);
    const { dev, ino } = lstatSync(place.path);
    const socketFile = { path: place.path, dev, ino };
    if (syscall(syscallNumber("listen"), fd, backlog, 0, 0, 0, 0) === 0) return { fd, socketFile };
    const name = errnoName(errno());
    removeSocketFile(socketFile);
    throw place.fault(`listen: ${name}`);
  });
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

let ucred: Mapping | undefined;

/** The user at the other end of a connection, as of when it connected (SO_PEERCRED, unix(7)). */
export function peerUidOf(fd: number): number {
  ucred ??= Mapping.anonymous(UCRED_BYTES + 4);
  const { view, address } = ucred;
  view.setUint32(UCRED_BYTES, UCRED_BYTES, true);
  const result = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, address, address + UCRED_BYTES);
  checked(result, "getsockopt", "Cannot tell who connected");
  return view.getUint32(4, true);
}
