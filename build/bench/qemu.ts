// The other monitor: QEMU's microvm with the guests of test/guest/, and its disk in a process of
// its own, as `qemu-storage-daemon` has it.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import { QEMU } from "./commands.js";
import { versionOf } from "./processes.js";

const STORAGE_DAEMON = "qemu-storage-daemon";

/** Far beyond what a daemon needs to make its socket. */
const SOCKET_MS_MAX = 10_000;
const POLL_MS = 5;

const MICROVM = [
  ...["-enable-kvm", "-m", "128", "-nodefaults", "-no-user-config", "-nographic"],
  ...["-serial", "stdio", "-no-reboot", "-global", "virtio-mmio.force-legacy=false"],
  ...["-device", "isa-debug-exit,iobase=0x501"],
];

/** Parameters of a guest for where microvm puts its windows, base, step, count; and its exit. */
const PARAMETERS = "mmio=0xfeb00000,512,24 exit=debug";

export const QEMU_RNG = [
  ...["-object", "rng-random,filename=/dev/urandom,id=r"],
  ...["-device", "virtio-rng-device,rng=r"],
];

export function qemuDisk(image: string): string[] {
  const drive = `file=${image},format=raw,if=none,id=d`;
  return ["-drive", drive, "-device", "virtio-blk-device,drive=d"];
}

/** A guest and what to tell it. */
export interface Guest {
  kernel: string;
  parameters?: string;
}

/**
 * The command that runs `guest` on QEMU's microvm.
 *
 * @param cpu what qemuCpu() found
 */
export function microvm(cpu: string, { kernel, parameters = "" }: Guest, options: string[]) {
  const isShared = options.some((word) => word.startsWith("memory-backend-"));
  const machine = `microvm,x-option-roms=off${isShared ? ",memory-backend=mem" : ""}`;
  const append = `${parameters} ${PARAMETERS}`;
  const which = ["-M", machine, "-cpu", cpu, "-kernel", kernel, "-append", append];
  return [QEMU, ...which, ...MICROVM, ...options];
}

/** A disk that another process serves over vhost-user, to one guest. */
export class VhostDisk {
  readonly #daemon: ChildProcess;
  readonly #socket: string;

  private constructor(daemon: ChildProcess, socket: string) {
    this.#daemon = daemon;
    this.#socket = socket;
  }

  /** Whether the daemon is installed here. */
  static get isAvailable(): boolean {
    return versionOf(STORAGE_DAEMON, "--version") !== undefined;
  }

  /** Starts the daemon for the raw `image`, with its socket in `directory`. */
  static async start(image: string, directory: string): Promise<VhostDisk> {
    const socket = path.join(directory, "vhost.sock");
    const file = `driver=file,node-name=f,filename=${image},aio=threads`;
    const address = `addr.type=unix,addr.path=${socket}`;
    const disk = `type=vhost-user-blk,id=e,node-name=f,${address},writable=on`;
    const args = ["--blockdev", file, "--export", disk];
    const daemon = spawn(STORAGE_DAEMON, args, { stdio: ["ignore", "ignore", "inherit"] });
    const end = performance.now() + SOCKET_MS_MAX;
    while (!existsSync(socket)) {
      if (daemon.exitCode !== null || performance.now() > end) {
        throw new Error(`${STORAGE_DAEMON} made no socket for ${image}`);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    return new VhostDisk(daemon, socket);
  }

  /** QEMU's options for it. */
  get options(): string[] {
    return [
      ...["-object", "memory-backend-memfd,id=mem,size=128M,share=on"],
      ...["-chardev", `socket,id=c0,path=${this.#socket}`],
      ...["-device", "vhost-user-blk,chardev=c0,num-queues=1"],
    ];
  }

  async close(): Promise<void> {
    if (this.#daemon.exitCode !== null) return;
    this.#daemon.kill();
    await once(this.#daemon, "close");
  }
}
