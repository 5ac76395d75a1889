// Passing open descriptors between processes: SCM_RIGHTS over a unix socket (unix(7), cmsg(3)).

import { checked, errno, recvmsg, sendmsg } from "./libc.js";
import { Mapping } from "./memory.js";

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EAGAIN = 11;

/**
 * Offsets in one scratch page: msghdr, iovec, one byte of data, and cmsghdr with one descriptor.
 */
const IOVEC = 64;
const DATA = 80;
const CONTROL = 96;
/** CMSG_LEN(4) and CMSG_SPACE(4): a header of 16 bytes, then the descriptor, padded to 8. */
const CMSG_LEN = 20;
const CMSG_SPACE = 24;
const MSGHDR_CONTROLLEN = 40;

function message(): Mapping {
  const page = Mapping.anonymous(4096);
  const { view, address } = page;
  view.setBigUint64(16, BigInt(address + IOVEC), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, BigInt(address + CONTROL), true);
  view.setBigUint64(MSGHDR_CONTROLLEN, BigInt(CMSG_SPACE), true);
  view.setBigUint64(IOVEC, BigInt(address + DATA), true);
  view.setBigUint64(IOVEC + 8, 1n, true);
  return page;
}

/** Sends `fd` over `socket`, with one byte that says nothing; the caller keeps its own `fd`. */
export function sendDescriptor(socket: number, fd: number): void {
  const page = message();
  page.view.setBigUint64(CONTROL, BigInt(CMSG_LEN), true);
  page.view.setInt32(CONTROL + 8, SOL_SOCKET, true);
  page.view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
  page.view.setInt32(CONTROL + 16, fd, true);
  const sent = sendmsg(socket, page.address, MSG_NOSIGNAL);
  page.close();
  checked(sent, "sendmsg", "Cannot pass a descriptor");
}

/**
 * Takes the next descriptor that `socket` holds (close-on-exec), or undefined when none is there.
 */
export function receiveDescriptor(socket: number): number | undefined {
  const page = message();
  const received = recvmsg(socket, page.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const { view } = page;
  const has = received === 1 && view.getBigUint64(MSGHDR_CONTROLLEN, true) >= BigInt(CMSG_LEN);
  const isRights = view.getInt32(CONTROL + 12, true) === SCM_RIGHTS;
  const fd = view.getInt32(CONTROL + 16, true);
  page.close();
  if (received === -1 && errno() !== EAGAIN)
    checked(received, "recvmsg", "Cannot take a descriptor");
  return has && isRights ? fd : undefined;
}
