// A pseudo-terminal that is made for a device, whose end of it is the master: who opens the slave
// talks to it. No slave is kept open here: whether there is one tells whether anybody is there, and
// what a device does then is its own affair. Linux tells nobody who waits at a master that its
// slave was opened, but whoever watches the slave's file.

import { closeSync, fchmodSync } from "node:fs";
import { checked, poll, syscall } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { syscallNumber } from "../sandbox/syscalls.js";
import { openPair } from "./pty.js";

/** Nobody but this user may open it. */
const MODE = 0o600;

/** sys/inotify.h */
const IN_CLOSE_WRITE = 0x08;
const IN_CLOSE_NOWRITE = 0x10;
const IN_OPEN = 0x20;
const IN_NONBLOCK = 0o4000;
const IN_CLOEXEC = 0o2000000;

/** poll.h; a hang-up is told unasked. */
const POLLFD = { fd: 0, revents: 6, bytes: 8 } as const;
const POLLHUP = 0x010;

/** Tells when somebody opens or closes files: its descriptor can then be read (inotify(7)). */
export class OpenWatch {
  readonly fd: number;

  constructor() {
    const flags = IN_NONBLOCK | IN_CLOEXEC;
    const fd = syscall(syscallNumber("inotify_init1"), flags, 0, 0, 0, 0, 0);
    const hint = "is /proc/sys/fs/inotify/max_user_instances too low?";
    this.fd = checked(fd, "inotify_init1", `Cannot watch a pseudo-terminal (${hint})`);
  }

  /** Watches the file that is open as `fd`, also when that is closed. */
  add(fd: number): void {
    const path = new TextEncoder().encode(`/proc/self/fd/${fd}\0`);
    const memory = Mapping.anonymous(path.length);
    new Uint8Array(memory.view.buffer).set(path);
    const events = IN_OPEN | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE;
    const nr = syscallNumber("inotify_add_watch");
    const watch = syscall(nr, this.fd, memory.address, events, 0, 0, 0);
    checked(watch, "inotify_add_watch", "Cannot watch a pseudo-terminal");
    memory.close();
  }

  close(): void {
    closeSync(this.fd);
  }
}

export class DevicePty {
  /** The device's end, which does not wait. */
  readonly master: number;
  /** Name of the slave. */
  readonly path: string;

  private constructor(master: number, path: string) {
    this.master = master;
    this.path = path;
  }

  /** Makes one, in raw mode, so that nothing is echoed to the device; `watch` tells who comes. */
  static open(watch: OpenWatch): DevicePty {
    const { master, slave, path } = openPair();
    try {
      fchmodSync(slave, MODE);
      watch.add(slave);
      return new DevicePty(master, path);
    } catch (error) {
      closeSync(master);
      throw error;
    } finally {
      closeSync(slave);
    }
  }

  /** Whether somebody has the slave open. */
  get isAttended(): boolean {
    const pollfd = Mapping.anonymous(POLLFD.bytes);
    pollfd.view.setInt32(POLLFD.fd, this.master, true);
    poll(pollfd.address, 1, 0);
    const revents = pollfd.view.getUint16(POLLFD.revents, true);
    pollfd.close();
    return (revents & POLLHUP) === 0;
  }

  /** Hangs up: what whoever is there has not read yet is lost to him. */
  close(): void {
    closeSync(this.master);
  }
}
