// Unix sockets: the structs and flags of their calls, and what is asked of every one of them.

import { recv } from "./libc.js";
import { s32, struct, u32, u64 } from "./struct.js";

/** struct msghdr and struct iovec (x86-64, linux/socket.h and linux/uio.h). */
export const MSGHDR = struct("msghdr", 56, {
  msg_name: u64,
  msg_namelen: u32,
  msg_iov: u64,
  msg_iovlen: u64,
  msg_control: u64,
  msg_controllen: u64,
  msg_flags: s32,
});
export const IOVEC = struct("iovec", 16, { iov_base: u64, iov_len: u64 });

/** linux/socket.h */
export const MSG = {
  MSG_PEEK: 0x02,
  MSG_CTRUNC: 0x08,
  MSG_TRUNC: 0x20,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_CMSG_CLOEXEC: 0x4000_0000,
} as const;

/** asm-generic/socket.h */
export const SOL_SOCKET = 1;

/** Bytes of the message that waits on a SOCK_SEQPACKET socket; 0 when its peer is gone, or -1. */
export function waitingBytes(socket: number): number {
  return recv(socket, 0, 0, MSG.MSG_PEEK | MSG.MSG_TRUNC | MSG.MSG_DONTWAIT);
}
