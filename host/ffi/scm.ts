// Passing open descriptors between processes: SCM_RIGHTS over a unix socket (unix(7), cmsg(3)).

import { checked, errno, recvmsg, sendmsg } from "./libc.js";
import { Mapping } from "./memory.js";
import { IOVEC, MSG, MSGHDR, SOL_SOCKET } from "./socket.js";

/** Length of the messages that sendDescriptor() sends. */
export const DESCRIPTOR_MESSAGE_BYTES = 1;

const SCM_RIGHTS = 1;
const EAGAIN = 11;
const ECONNRESET = 104;

/** Offsets in one scratch page: msghdr, iovec, the data, and cmsghdr with one descriptor. */
const IOV = 64;
const DATA = 80;
const CONTROL = 96;
/**
 * CMSG_LEN(4): a header of 16 bytes, then one descriptor. The padding of CMSG_SPACE(4) would have
 * room for a second one, which a hostile sender would add and nobody would close.
 */
const CMSG_LEN = 20;

function message(): Mapping {
  const page = Mapping.anonymous(1);
  const { view, address } = page;
  MSGHDR.write(view, 0, {
    msg_iov: BigInt(address + IOV),
    msg_iovlen: 1n,
    msg_control: BigInt(address + CONTROL),
    msg_controllen: BigInt(CMSG_LEN),
  });
  const iov_len = BigInt(DESCRIPTOR_MESSAGE_BYTES);
  IOVEC.write(view, IOV, { iov_base: BigInt(address + DATA), iov_len });
  return page;
}

/**
 * Sends `fd` with a message: one byte that says nothing, unless `body` says where there is another.
 * The caller keeps its own `fd`.
 */
export function sendDescriptor(
  socket: number,
  fd: number,
  body?: { address: number; bytes: number },
): void {
  const page = message();
  const { view } = page;
  if (body !== undefined) {
    const { address, bytes } = body;
    IOVEC.write(view, IOV, { iov_base: BigInt(address), iov_len: BigInt(bytes) });
  }
  view.setBigUint64(CONTROL, BigInt(CMSG_LEN), true);
  view.setInt32(CONTROL + 8, SOL_SOCKET, true);
  view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
  view.setInt32(CONTROL + 16, fd, true);
  const sent = sendmsg(socket, page.address, MSG.MSG_NOSIGNAL);
  page.close();
  checked(sent, "sendmsg", "Cannot pass a descriptor");
}

/**
 * Takes the next message of `socket` and the descriptor that it carries (close-on-exec, the
 * caller's to close); undefined when it carries none, when no message waits, or when the peer has
 * gone.
 */
export function receiveDescriptor(socket: number): number | undefined {
  const page = message();
  const received = recvmsg(socket, page.address, MSG.MSG_DONTWAIT | MSG.MSG_CMSG_CLOEXEC);
  const { view } = page;
  const control = Number(MSGHDR.read(view, 0).msg_controllen);
  const type = view.getInt32(CONTROL + 12, true);
  const fd = view.getInt32(CONTROL + 16, true);
  page.close();
  if (received > 0) return control >= CMSG_LEN && type === SCM_RIGHTS ? fd : undefined;
  if (received === 0 || errno() === EAGAIN || errno() === ECONNRESET) return undefined;
  checked(received, "recvmsg", "Cannot take a descriptor");
  return undefined;
}
