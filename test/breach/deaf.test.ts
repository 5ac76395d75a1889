// A real, confined device process that stops reading while its driver does what it likes: the VMM
// never waits for it, queues nothing but what the socket holds, and loses nothing that counts.

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { close } from "../../host/ffi/libc.js";
import { spawnDevice } from "../../host/sandbox/spawn.js";
import { MockRam } from "../../host/testing/mock-ram.js";
import { DeviceLink } from "../../host/virtio/link.js";
import { SocketChannel } from "../../host/wire/channel.js";
import { Guard } from "../support/guard.js";
import { note, skip } from "../support/skip.js";
import { Bench } from "../virtio/rig.js";
import { missingNamespaces, RNG_MODULE } from "./support/attacker.js";

const ROUNDS = 20_000;
const DEPTH = 64;
/** What the VMM may grow by in all rounds: V8 fills its young generation, and nothing queues. */
const GROWTH_BYTES_MAX = 64 * 1024 * 1024;

/** The device, and the VMM's side of it with a driver in front. */
class Machine {
  readonly bench = new Bench({ queueSizesMax: [DEPTH], ram: new MockRam(16 * 1024 * 1024) });
  readonly troubles: string[] = [];
  readonly link: DeviceLink;
  readonly process = spawnDevice({
    id: "rng0",
    module: RNG_MODULE,
    grants: [{ name: "source", kind: "file", what: "/dev/urandom", rights: ["read"] }],
    seccomp: "enforce",
  });
  readonly #guard = new Guard(this.process, "enforce");
  readonly #channel = new SocketChannel(this.process.takeSocket());
  approved = false;

  constructor() {
    this.link = new DeviceLink(this.bench.registers, {
      log: () => {},
      ready: () => {
        this.link.approve();
        this.approved = true;
      },
      closed: () => this.troubles.push("closed"),
      broken: (reason) => this.troubles.push(reason),
    });
    this.link.attach(this.#channel);
  }

  /** Serves the socket as the I/O worker does, until `condition` holds. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition() && this.troubles.length === 0) {
      if (!this.#guard.poll()) {
        await sleep(1);
        continue;
      }
      if (this.link.wantsWritable) this.link.onWritable();
      if (!this.link.onReadable()) await sleep(1);
    }
    assert.equal(this.troubles, []);
  }

  /** Stops the process, and returns when it is stopped. */
  async stop(): Promise<void> {
    const { pid } = this.process;
    process.kill(pid, "SIGSTOP");
    while (fs.readFileSync(`/proc/${pid}/stat`, "latin1").split(" ")[2] !== "T") await sleep(1);
  }

  /** A reset, and a full queue of requests, each with a kick. */
  insist(): void {
    const [queue] = this.bench.driver.start();
    for (let i = 0; i < DEPTH; i += 1) {
      queue!.add({ writable: [16] });
      this.bench.driver.notify(0);
    }
  }

  async close(): Promise<void> {
    const ended = new Promise((resolve) => this.process.onExit(resolve));
    this.process.close();
    await ended;
    this.#guard.close();
    close(this.#channel.fd);
    this.#channel.close();
    this.bench.close();
  }
}

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
else
  test("a device process that reads nothing costs the VMM neither time nor memory", async () => {
    const machine = new Machine();
    const { link, bench } = machine;
    try {
      await machine.until(() => machine.approved);
      await machine.stop();
      const before = process.memoryUsage().rss;
      let longestMs = 0;
      for (let i = 0; i < ROUNDS; i += 1) {
        const start = performance.now();
        machine.insist();
        longestMs = Math.max(longestMs, performance.now() - start);
      }
      assert.ok(link.wantsWritable, "the socket is full");
      const grown = process.memoryUsage().rss - before;
      note(
        `${ROUNDS} resets, ${(grown / 2 ** 20).toFixed(0)} MiB, ${longestMs.toFixed(0)} ms at most`,
      );
      assert.ok(grown < GROWTH_BYTES_MAX, `${grown} bytes`);

      process.kill(machine.process.pid, "SIGCONT");
      const [queue] = bench.driver.queues;
      await machine.until(() => queue!.deviceUsedIndex === DEPTH);
      assert.is(queue!.collect().length, DEPTH, "what was asked last is answered");
      queue!.checkGuards();
      bench.ram.checkFences();
    } finally {
      await machine.close();
    }
  });

test.run();
