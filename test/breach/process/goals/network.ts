// The network, and everything else that a socket can be.

import { foundText, type Goal, goal, SECRET } from "../goal.js";
import { type Native, nameOf, packed } from "../native.js";

const AF_UNIX = 1;
const SUN_PATH_BYTES = 108;
const AF_INET = 2;
const AF_NETLINK = 16;
const AF_PACKET = 17;
const AF_ALG = 38;
const AF_VSOCK = 40;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const SOCKET_FD = 3;
const SOL_SOCKET = 1;
const SO_PASSCRED = 16;
const SO_PEERCRED = 17;
const SO_SNDBUFFORCE = 32;
const LOOPBACK = [127, 0, 0, 1];

const noFilter = { canary: "no filter" } as const;
const nothing = { canary: "nothing" } as const;

function sockaddr_in(port: number): Uint8Array {
  return Uint8Array.from([
    AF_INET,
    0,
    port >> 8,
    port & 0xff,
    ...LOOPBACK,
    ...new Array(8).fill(0),
  ]);
}

/** An abstract address, padded to the size of the struct as libuv does it. */
function sockaddr_un(name: string): Uint8Array {
  const address = new Uint8Array(2 + SUN_PATH_BYTES);
  address[0] = AF_UNIX;
  address.set(new TextEncoder().encode(name), 3);
  return address;
}

/** What the VMM's server at `address` says. */
function greeting(native: Native, family: number, address: Uint8Array): string {
  const fd = native.call("socket", family, SOCK_STREAM, 0);
  if (fd < 0) return nameOf(fd);
  const connected = native.call("connect", fd, address, address.length);
  return connected < 0 ? nameOf(connected) : native.text(fd);
}

const REACHING: Goal[] = [
  goal("connect to a port of the host", { ...nothing, landlock: 4 }, (native, { tcpPort }) =>
    foundText(greeting(native, AF_INET, sockaddr_in(tcpPort)), SECRET),
  ),
  goal(
    "connect to an abstract unix socket",
    { ...nothing, landlock: 6 },
    (native, { abstractName }) =>
      foundText(greeting(native, AF_UNIX, sockaddr_un(abstractName)), SECRET),
  ),
  goal("create a socket: inet", noFilter, (native) =>
    native.call("socket", AF_INET, SOCK_STREAM, 0),
  ),
  goal("create a socket: unix", noFilter, (native) =>
    native.call("socket", AF_UNIX, SOCK_STREAM, 0),
  ),
  goal("create a socket: netlink", noFilter, (native) =>
    native.call("socket", AF_NETLINK, SOCK_RAW, 0),
  ),
  goal("create a socket: packet", nothing, (native) =>
    native.call("socket", AF_PACKET, SOCK_RAW, 0),
  ),
  goal("create a socket: vsock, which no namespace holds", { why: "few kernels" }, (native) =>
    native.call("socket", AF_VSOCK, SOCK_STREAM, 0),
  ),
  goal("create a socket: the kernel's crypto", { why: "not in every kernel" }, (native) =>
    native.call("socket", AF_ALG, 5, 0),
  ),
  goal("create a pair of sockets", nothing, (native) =>
    native.call("socketpair", AF_UNIX, SOCK_STREAM, 0, native.room(8)),
  ),
];

const ITS_SOCKET: Goal[] = [
  goal("connect its socket elsewhere", { why: "it is connected: EINVAL" }, (native, context) => {
    const address = sockaddr_un(context.abstractName);
    return native.call("connect", SOCKET_FD, address, address.length);
  }),
  goal("give its socket a name: bind", { why: "a name stays in its namespace" }, (native) => {
    const address = sockaddr_un("mine");
    return native.call("bind", SOCKET_FD, address, address.length);
  }),
  goal("listen on its socket", { why: "it is connected: EINVAL" }, (native) =>
    native.call("listen", SOCKET_FD, 1),
  ),
  goal("accept on its socket", { why: "it is connected: EINVAL" }, (native) =>
    native.call("accept4", SOCKET_FD, 0, 0, 0),
  ),
  goal("learn who the VMM is: SO_PEERCRED", noFilter, (native) => {
    const bytes = native.place(packed(4, 12));
    return native.call("getsockopt", SOCKET_FD, SOL_SOCKET, SO_PEERCRED, native.room(12), bytes);
  }),
  goal("have credentials attached: SO_PASSCRED", noFilter, (native) =>
    native.call("setsockopt", SOCKET_FD, SOL_SOCKET, SO_PASSCRED, packed(4, 1), 4),
  ),
  goal("enlarge its socket's buffer: SO_SNDBUFFORCE", nothing, (native) =>
    native.call("setsockopt", SOCKET_FD, SOL_SOCKET, SO_SNDBUFFORCE, packed(4, 1 << 28), 4),
  ),
  goal("use its socket with another call: sendto", noFilter, (native) =>
    native.call("sendto", SOCKET_FD, native.room(16), 16, 0, 0, 0),
  ),
  goal("use its socket with another call: write", noFilter, (native) =>
    native.call("write", SOCKET_FD, native.room(16), 16),
  ),
  goal("use its socket with another call: sendmmsg", noFilter, (native) => {
    const iovec = native.place(packed(8, native.room(16), 16));
    return native.call("sendmmsg", SOCKET_FD, packed(8, 0, 0, iovec, 1, 0, 0, 0, 0), 1, 0);
  }),
];

export const NETWORK_GOALS: readonly Goal[] = [...REACHING, ...ITS_SOCKET];
