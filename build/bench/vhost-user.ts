// A disk of qemu-storage-daemon, driven over vhost-user: the daemon maps guest memory and serves
// its queue itself; we are the VMM that told it where that is, and the guest.
// (QEMU's docs/interop/vhost-user.rst)

import { strict as assert } from "node:assert";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { checked, close, recv, sendmsg, syscall } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { IOVEC, MSG, MSGHDR, SOL_SOCKET } from "../../host/ffi/socket.js";
import { EPOLLET, EPOLLIN, Epoll } from "../../host/machine/epoll.js";
import { EventFd } from "../../host/machine/eventfd.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";
import {
  type BenchRam,
  type DiskPath,
  QUEUE_SIZE,
  RAM_BYTES,
  RAM_GPA,
  RINGS,
} from "./disk-driver.js";

export const DAEMON = "qemu-storage-daemon";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SCM_RIGHTS = 1;
const MSG_WAITALL = 0x100;
/** VHOST_USER_… requests. */
const GET_FEATURES = 1;
const SET_FEATURES = 2;
const SET_OWNER = 3;
const SET_MEM_TABLE = 5;
const SET_VRING_NUM = 8;
const SET_VRING_ADDR = 9;
const SET_VRING_BASE = 10;
const GET_VRING_BASE = 11;
const SET_VRING_KICK = 12;
const SET_VRING_CALL = 13;
const VERSION = 1;
const HEADER_BYTES = 12;

/** Offsets in one scratch page: msghdr, iovec, control, message. */
const IOV = 64;
const CONTROL = 96;
const CMSG_LEN = 20;
const MESSAGE = 128;

/** A daemon that does not open its socket in this time has failed. */
const START_MS_MAX = 10_000;

/** The control connection: requests, and the few replies. */
class Control {
  readonly #fd: number;
  readonly #page = Mapping.anonymous(4096);

  constructor(path: string) {
    const nr = syscallNumber("socket");
    this.#fd = checked(syscall(nr, AF_UNIX, SOCK_STREAM, 0, 0, 0, 0), "socket", "Cannot connect");
    const { view, address } = this.#page;
    view.setUint16(0, AF_UNIX, true);
    const bytes = new TextEncoder().encodeInto(`${path}\0`, new Uint8Array(view.buffer, 2)).written;
    const result = syscall(syscallNumber("connect"), this.#fd, address, 2 + bytes, 0, 0, 0);
    checked(result, "connect", `Cannot reach ${DAEMON} at "${path}"`);
    this.#page.words.fill(0);
  }

  /** Sends a request whose payload is 64-bit words, and with it a descriptor. */
  send(request: number, words: readonly (number | bigint)[] = [], fd?: number): void {
    const { view, address } = this.#page;
    view.setUint32(MESSAGE, request, true);
    view.setUint32(MESSAGE + 4, VERSION, true);
    view.setUint32(MESSAGE + 8, words.length * 8, true);
    for (const [i, word] of words.entries()) {
      view.setBigUint64(MESSAGE + HEADER_BYTES + i * 8, BigInt(word), true);
    }
    const iov_len = BigInt(HEADER_BYTES + words.length * 8);
    IOVEC.write(view, IOV, { iov_base: BigInt(address + MESSAGE), iov_len });
    MSGHDR.write(view, 0, {
      msg_iov: BigInt(address + IOV),
      msg_iovlen: 1n,
      msg_control: BigInt(fd === undefined ? 0 : address + CONTROL),
      msg_controllen: BigInt(fd === undefined ? 0 : CMSG_LEN),
    });
    view.setBigUint64(CONTROL, BigInt(CMSG_LEN), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    view.setInt32(CONTROL + 16, fd ?? -1, true);
    checked(sendmsg(this.#fd, address, MSG.MSG_NOSIGNAL), "sendmsg", `Cannot tell ${DAEMON}`);
  }

  /** Sends a request, and returns the 64 bits that answer it. */
  ask(request: number, words: readonly (number | bigint)[] = []): bigint {
    this.send(request, words);
    const { view, address } = this.#page;
    const bytes = recv(this.#fd, address + MESSAGE, HEADER_BYTES + 8, MSG_WAITALL);
    assert.equal(bytes, HEADER_BYTES + 8, `${DAEMON} answered ${bytes} bytes`);
    return view.getBigUint64(MESSAGE + HEADER_BYTES, true);
  }

  close(): void {
    close(this.#fd);
    this.#page.close();
  }
}

/** Two 32-bit numbers as one word. */
function pair(low: number, high: number): bigint {
  return BigInt(low) | (BigInt(high) << 32n);
}

export interface VhostUserOptions {
  ram: BenchRam;
  /** Socket of the daemon. */
  socket: string;
  features: bigint;
  /** Look at the used ring without end instead of sleeping until the daemon signals. */
  polls?: boolean;
}

/** The disk at the other end of a vhost-user socket. */
export class VhostUserDisk implements DiskPath {
  readonly #control: Control;
  readonly #kick = EventFd.create();
  readonly #call = EventFd.create();
  readonly #epoll = new Epoll();
  readonly #polls: boolean;

  constructor({ ram, socket, features, polls = false }: VhostUserOptions) {
    this.#polls = polls;
    // Edge-triggered: as in our I/O worker, an eventfd is not read, and a wake-up is one call.
    this.#epoll.add(this.#call.fd, EPOLLIN | EPOLLET, () => {});
    this.#control = new Control(socket);
    const { address } = ram.mapping;
    const control = this.#control;
    const offered = control.ask(GET_FEATURES);
    assert.equal(offered & features, features, `${DAEMON} does not offer what is to be compared`);
    control.send(SET_OWNER);
    control.send(SET_FEATURES, [features]);
    control.send(SET_MEM_TABLE, [1, RAM_GPA, RAM_BYTES, address, 0], ram.fd);
    control.send(SET_VRING_NUM, [pair(0, QUEUE_SIZE)]);
    const [desc, used, avail] = [RINGS.desc, RINGS.device, RINGS.driver].map(
      (gpa) => address + gpa - RAM_GPA,
    );
    control.send(SET_VRING_ADDR, [pair(0, 0), desc!, used!, avail!, 0]);
    control.send(SET_VRING_BASE, [pair(0, 0)]);
    control.send(SET_VRING_CALL, [0], this.#call.fd);
    control.send(SET_VRING_KICK, [0], this.#kick.fd);
  }

  kick(): void {
    this.#kick.signal();
  }

  wait(): void {
    if (!this.#polls) this.#epoll.serve();
  }

  close(): void {
    this.#control.ask(GET_VRING_BASE, [pair(0, 0)]); // the daemon is done with the memory then
    this.#control.close();
    this.#kick.close();
    this.#call.close();
    this.#epoll.close();
  }
}

/** Starts the daemon on `image`, and waits until it listens at `socket`. */
export async function startDaemon(image: string, socket: string): Promise<ChildProcess> {
  const pidFile = `${socket}.pid`;
  const child = spawn(
    DAEMON,
    [
      ...["--blockdev", `driver=file,node-name=f,filename=${image},aio=threads`],
      "--export",
      `type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=${socket},writable=on`,
      ...["--pidfile", pidFile], // written when the export is there
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const deadline = performance.now() + START_MS_MAX;
  while (!existsSync(pidFile)) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill();
      throw new Error(`${DAEMON} did not start on ${image}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return child;
}
