// Entropy from a confined device process into a driver on the host: everything of the data path but
// the guest. The chains stay as they are and are offered again, so that the driver costs little.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { DenialWatch } from "../../host/machine/denial-watch.js";
import { EPOLLIN, Epoll } from "../../host/machine/epoll.js";
import { resolveGrants } from "../../host/sandbox/grants.js";
import { inspectModule } from "../../host/sandbox/manifest.js";
import { type Proof, proofOf } from "../../host/sandbox/proof.js";
import { type DeviceProcess, spawnDevice } from "../../host/sandbox/spawn.js";
import { MockDriver, type MockQueue } from "../../host/testing/mock-driver.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import { DeviceLink } from "../../host/virtio/link.js";
import { MmioTransport } from "../../host/virtio/mmio.js";
import { RegisterFile } from "../../host/virtio/registers.js";
import { SocketChannel } from "../../host/wire/channel.js";

const CHAINS = 32;
const CHAIN_BYTES = 4096;

export interface HostDriverResult {
  bytesPerSecond: number[];
  /** From spawn to READY. */
  startMs: number;
  /** What the kernel says of the device when it has served all that. */
  proof: Proof;
}

/** One device process with registers and link in front of it. */
class Device {
  readonly #process: DeviceProcess;
  readonly #channel: SocketChannel;
  readonly #link: DeviceLink;
  readonly #epoll = new Epoll();
  readonly #ram = new MockRam();
  readonly #driver: MockDriver;
  readonly #begin = performance.now();
  startMs = Number.NaN;

  constructor(module: string) {
    const { manifest } = inspectModule(readFileSync(module));
    const source = { kind: "file", what: "/dev/urandom", rights: ["read"] } as const;
    const grants = resolveGrants(manifest, { source: { ...source, rights: ["read"] } });
    const entry = fileURLToPath(new URL("../../bundle/runtime/main.js", import.meta.url));
    this.#process = spawnDevice({ id: "rng0", module, grants, seccomp: "enforce", entry });
    const registers = new RegisterFile(this.#ram.memory, {
      id: "rng0",
      virtioId: manifest.virtioId,
      queueSizesMax: manifest.queues,
      features: BigInt(manifest.features),
      configBytes: manifest.config,
      interruptStatus: new Int32Array(new SharedArrayBuffer(4)),
      interruptIndex: 0,
      interrupt: () => {},
      log: (line) => this.#fail(line),
    });
    this.#link = new DeviceLink(registers, {
      log: (line) => this.#fail(line),
      ready: () => {
        this.startMs = performance.now() - this.#begin;
        this.#link.approve();
      },
      closed: () => this.#fail(this.#process.stderr),
      broken: (reason) => this.#fail(reason),
    });
    this.#driver = new MockDriver(this.#ram, new MmioTransport(registers));
    this.#channel = new SocketChannel(this.#process.socketFd);
    this.#link.attach(this.#channel);
    const denied = (call: string) => this.#fail(`it tried ${call}`);
    const denials = new DenialWatch(this.#epoll, { log: false, denied });
    this.#epoll.add(this.#process.socketFd, EPOLLIN, () => {
      if (!denials.introduce(this.#process.socketFd)) this.#link.onReadable();
    });
    while (Number.isNaN(this.startMs)) this.#epoll.serve();
  }

  #fail(reason: string): never {
    throw new Error(`the device failed: ${reason}`);
  }

  /** Entropy for `seconds`, with all chains in flight. */
  measure(seconds: number): number {
    const [queue] = this.#driver.start();
    for (let i = 0; i < CHAINS; i++) queue!.add({ writable: [CHAIN_BYTES] });
    const begin = performance.now();
    let bytes = 0;
    this.#driver.kick(queue!);
    while (performance.now() - begin < seconds * 1000) {
      this.#epoll.serve();
      bytes += this.#offerAgain(queue!);
      this.#driver.kick(queue!);
    }
    const bytesPerSecond = (bytes / (performance.now() - begin)) * 1000;
    this.#driver.reset();
    return bytesPerSecond;
  }

  /** Offers every used chain again; returns the bytes that came in them. */
  #offerAgain(queue: MockQueue): number {
    const { view, gpa } = this.#ram;
    const used = queue.deviceUsedIndex;
    let bytes = 0;
    for (; queue.usedIndex !== used; queue.usedIndex = (queue.usedIndex + 1) & 0xffff) {
      const at = queue.device.gpa - gpa + 4 + 8 * (queue.usedIndex % queue.size);
      queue.offer(view.getUint32(at, true));
      bytes += view.getUint32(at + 4, true);
    }
    queue.writeUsedEvent(used);
    return bytes;
  }

  proof(): Proof {
    return proofOf(this.#process.pid);
  }

  close(): void {
    this.#link.detach();
    this.#process.close();
    this.#channel.close();
    this.#ram.close();
  }
}

/** `rounds` measurements of `seconds` each, of one device process. */
export function hostDriver(module: string, rounds: number, seconds: number): HostDriverResult {
  const device = new Device(module);
  try {
    const bytesPerSecond = Array.from({ length: rounds }, () => device.measure(seconds));
    return { bytesPerSecond, startMs: device.startMs, proof: device.proof() };
  } finally {
    device.close();
  }
}
