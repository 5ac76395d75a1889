// What its socket and the system calls that it may make can be misused for. No filter stops these:
// the VMM does, or the kernel.

import { type Finding, found, type Goal, goal } from "../goal.js";
import { type Native, nameOf, packed } from "../native.js";

const SOCKET_FD = 3;
const IMAGE_FD = 5;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SCM_CREDENTIALS = 2;
const MSG_OOB = 1;
const MSG_DONTWAIT = 0x40;
const MSG_ZEROCOPY = 0x400_0000;
const MSG_CTRUNC = 0x08;
const CONTROL_BYTES = 256;
const IOV_MAX = 1024;
const EAGAIN = -11;
/** More than SO_SNDBUF of one socket, doubled by the kernel, ever is without privilege. */
const QUEUED_BYTES_MAX = 16 * 1024 * 1024;

export interface MessageParts {
  name?: Uint8Array;
  control?: Uint8Array;
  body?: Uint8Array;
  flags?: number;
}

/** sendmsg(2) with any parts. */
export function send(native: Native, fd: number, parts: MessageParts): number {
  const { name, control, body = new Uint8Array(16), flags = 0 } = parts;
  const iovec = native.place(packed(8, native.place(body), body.length));
  const [nameAt, nameBytes] = name ? [native.place(name), name.length] : [0, 0];
  const [at, bytes] = control ? [native.place(control), control.length] : [0, 0];
  const msghdr = packed(8, nameAt, nameBytes, iovec, 1, at, bytes, 0);
  return native.call("sendmsg", fd, msghdr, flags);
}

/** struct cmsghdr and its data. */
function ancillary(type: number, data: Uint8Array): Uint8Array {
  const header = [...packed(8, 16 + data.length), ...packed(4, SOL_SOCKET, type)];
  const padding = new Array((8 - (data.length % 8)) % 8).fill(0);
  return Uint8Array.from([...header, ...data, ...padding]);
}

function passing(...fds: number[]): Uint8Array {
  return ancillary(SCM_RIGHTS, packed(4, ...fds));
}

/** The kernel took the message; whether anything came of it is for the VMM to say. */
function sent(result: number): Finding {
  return { reached: false, detail: result < 0 ? nameOf(result) : "sent" };
}

const DESCRIPTORS: Goal[] = [
  // The VMM counts its descriptors: one more, and this is reached.
  goal("give the VMM a descriptor: SCM_RIGHTS", { stop: "sent", canary: "nothing" }, (native) =>
    sent(send(native, SOCKET_FD, { control: passing(IMAGE_FD) })),
  ),
  goal(
    "fill the VMM's descriptor table: SCM_RIGHTS, many times",
    { stop: "sent", canary: "nothing" },
    (native) => {
      for (let i = 0; i < 64; i++) {
        const control = passing(IMAGE_FD, IMAGE_FD, SOCKET_FD);
        const result = send(native, SOCKET_FD, { control, flags: MSG_DONTWAIT });
        if (result < 0) return { reached: false, detail: i > 0 ? "sent" : nameOf(result) };
        native.reset();
      }
      return { reached: false, detail: "sent" };
    },
  ),
  goal(
    "get a descriptor from the VMM: recvmsg with room for one",
    { stop: "no descriptor came", why: "the VMM sends none" },
    (native) => {
      const control = native.room(CONTROL_BYTES);
      const iovec = native.place(packed(8, native.room(16), 16));
      const msghdr = native.place(packed(8, 0, 0, iovec, 1, control, CONTROL_BYTES, 0));
      send(native, SOCKET_FD, {});
      const result = native.call("recvmsg", SOCKET_FD, msghdr, 0);
      if (result < 0) return { reached: false, detail: nameOf(result) };
      const words = new DataView(native.bytesAt(msghdr, 56).buffer);
      const came = words.getUint32(40, true) > 0 || (words.getInt32(48, true) & MSG_CTRUNC) !== 0;
      return { reached: came, detail: came ? "something came" : "no descriptor came" };
    },
  ),
  goal("claim to be root: SCM_CREDENTIALS", { stop: "EINVAL", canary: "nothing" }, (native) =>
    found(send(native, SOCKET_FD, { control: ancillary(SCM_CREDENTIALS, packed(4, 1, 0, 0)) })),
  ),
];

const ADDRESSES: Goal[] = [0, 1, 2, IMAGE_FD].map((fd) =>
  goal(`send on descriptor ${fd}: sendmsg`, { why: "it is no socket: ENOTSOCK" }, (native) =>
    send(native, fd, {}),
  ),
);

const SHAPES: Goal[] = [
  goal(
    "send to somebody else: sendmsg with an address",
    { stop: "sent", why: "a connected socket ignores it; nobody but the VMM hears" },
    (native, { abstractName }) => {
      const name = Uint8Array.from([1, 0, 0, ...new TextEncoder().encode(abstractName)]);
      return sent(send(native, SOCKET_FD, { name }));
    },
  ),
  goal(
    "send out of band: MSG_OOB",
    { stop: "EOPNOTSUPP", why: "the kernel has none for SOCK_SEQPACKET" },
    (native) => send(native, SOCKET_FD, { flags: MSG_OOB }),
  ),
  goal(
    "send memory that it can still change: MSG_ZEROCOPY",
    { stop: "sent", why: "a unix socket copies" },
    (native) => sent(send(native, SOCKET_FD, { flags: MSG_ZEROCOPY })),
  ),
  goal(
    "send more pieces than a message may have",
    { stop: "EMSGSIZE", why: "IOV_MAX of the kernel" },
    (native) => {
      const iovecs = native.room((IOV_MAX + 1) * 16);
      return native.call("sendmsg", SOCKET_FD, packed(8, 0, 0, iovecs, IOV_MAX + 1, 0, 0, 0), 0);
    },
  ),
  goal(
    "send 4 GiB in one message",
    { stop: "EMSGSIZE", why: "a message must fit into the buffer" },
    (native) => {
      const iovec = native.place(packed(8, native.room(16), 2 ** 32));
      return native.call("sendmsg", SOCKET_FD, packed(8, 0, 0, iovec, 1, 0, 0, 0), 0);
    },
  ),
  goal(
    "send what is in the kernel's memory",
    { stop: "EFAULT", why: "the kernel checks addresses" },
    (native) => {
      const iovec = native.place(packed(8, 0xffff_8880_0000_0000n, 16));
      return native.call("sendmsg", SOCKET_FD, packed(8, 0, 0, iovec, 1, 0, 0, 0), 0);
    },
  ),
  goal(
    "fill the kernel's memory with messages that the VMM does not read",
    { stop: "bounded", why: "SO_SNDBUF holds everywhere", deaf: true },
    (native) => {
      const body = new Uint8Array(64 * 1024);
      let bytes = 0;
      let result = 0;
      while (bytes < QUEUED_BYTES_MAX) {
        result = send(native, SOCKET_FD, { body, flags: MSG_DONTWAIT });
        if (result < 0) break;
        bytes += body.length;
        native.reset();
      }
      const reached = bytes >= QUEUED_BYTES_MAX || result !== EAGAIN;
      return { reached, detail: reached ? `${bytes} bytes, ${nameOf(result)}` : "bounded" };
    },
  ),
];

export const SOCKET_GOALS: readonly Goal[] = [...DESCRIPTORS, ...ADDRESSES, ...SHAPES];
