// A console on a pseudo-terminal of its own, in whole machines: nobody there, somebody slow, and
// people who come and go.

import { suite } from "uvu";
import * as assert from "uvu/assert";
import { guestPath } from "../../build/guest.js";
import type { DeviceConfig } from "../../host/machine/config.js";
import { DevicePty, OpenWatch } from "../../host/machine/device-pty.js";
import { whyNoKvm } from "../support/bulkhead.js";
import { CONSOLE, guestPattern } from "../support/console.js";
import { skip } from "../support/skip.js";
import { Slave } from "../support/slave.js";
import { config, Run } from "../support/vm.js";

const BYTES = 4 * 1024 * 1024;
const FIRST_BYTES = 256 * 1024;
/** Linux keeps 12 to 16 KiB for a terminal that nobody reads. */
const KEPT_BYTES_MIN = 8 * 1024;

const consoles = suite("console of a VM on a pseudo-terminal");

/** Closed with the tests: a hang-up throws away what was not read, and some tests may fail. */
const machines: Machine[] = [];
consoles.after(() => {
  for (const machine of machines) machine.close();
});

/** A machine whose console has a pseudo-terminal. */
class Machine {
  run!: Run;
  readonly #watch = new OpenWatch();
  readonly #pty = DevicePty.open(this.#watch);

  static async start(
    cmdline: string,
    isolation: DeviceConfig["isolation"] = "process",
  ): Promise<Machine> {
    const machine = new Machine();
    const { master: held, path: what } = machine.#pty;
    const device: DeviceConfig = {
      id: "console0",
      module: CONSOLE,
      grants: { tty: { kind: "tty", what, rights: ["read", "write"], held } },
      isolation,
      seccomp: "enforce",
      wakeFds: [machine.#watch.fd],
    };
    const changes = { kernel: guestPath("console"), devices: [device] };
    machine.run = await Run.create(config(cmdline, changes));
    machines.push(machine);
    return machine;
  }

  /** Somebody comes. */
  attach(): Slave {
    return new Slave(this.#pty.path);
  }

  /** Runs the guest to its end; returns the status. */
  async toEnd(): Promise<number> {
    return (await this.run.vm.run()).status;
  }

  close(): void {
    this.run.vm.stop("the tests are over");
    this.#pty.close();
    this.#watch.close();
  }

  /** Waits until the guest has sent all of its bytes. */
  sent(): Promise<void> {
    return this.run.until(() => this.run.text.includes("console: sent"));
  }
}

/** Lets the guest's echo end. */
async function quit(somebody: Slave): Promise<void> {
  somebody.type("q");
  await somebody.hearText("q");
  somebody.close();
}

for (const isolation of ["process", "inline"] as const) {
  consoles(`a slow reader gets all that the guest says: ${isolation}`, async () => {
    const machine = await Machine.start(`send=${BYTES}`, isolation);
    const somebody = machine.attach();
    const done = machine.toEnd();
    const said = await somebody.hear((bytes) => bytes >= BYTES);
    assert.ok(said.equals(guestPattern(BYTES)), "bytes were lost or changed");
    assert.is(await done, 0);
    somebody.close();
  });

  consoles(`a guest that says much to nobody goes on, heard later: ${isolation}`, async () => {
    const machine = await Machine.start(`send=${BYTES} echo`, isolation);
    const done = machine.toEnd();
    await machine.sent();
    const somebody = machine.attach();
    somebody.type(" and the end");
    const heard = await somebody.hearText(" and the end");
    const kept = heard.subarray(0, -" and the end".length);
    assert.ok(kept.length >= KEPT_BYTES_MIN, `${kept.length} bytes were kept`);
    assert.ok(kept.equals(guestPattern(kept.length)), "what was kept is not what was said first");
    await quit(somebody);
    assert.is(await done, 0);
  });

  consoles(`who leaves in the middle holds nobody up: ${isolation}`, async () => {
    const machine = await Machine.start(`send=${BYTES} echo`, isolation);
    const first = machine.attach();
    const done = machine.toEnd();
    await first.hear((bytes) => bytes >= FIRST_BYTES);
    first.close();
    await machine.sent();
    await quit(machine.attach());
    assert.is(await done, 0);
  });
}

consoles("what is typed by somebody who leaves at once is heard", async () => {
  const machine = await Machine.start("echo");
  const done = machine.toEnd();
  for (const word of ["one", "two", "three"]) {
    const somebody = machine.attach();
    somebody.type(word);
    somebody.close();
    const reader = machine.attach();
    assert.is(String(await reader.hearText(word)), word);
    reader.close();
  }
  await quit(machine.attach());
  assert.is(await done, 0);
});

consoles("a device that dies while somebody is there, or nobody, has a successor", async () => {
  const machine = await Machine.start("echo");
  const done = machine.toEnd();
  const kill = async () => {
    const { run } = machine;
    const restarts = run.all("device-restart").length;
    const ready = run.all("device-ready").length;
    process.kill(run.all("device-ready").at(-1)!.pid, "SIGKILL");
    await run.until(() => run.all("device-restart").length > restarts);
    await run.until(() => run.all("device-ready").length > ready);
  };
  await kill();
  const somebody = machine.attach();
  somebody.type("first");
  assert.is(String(await somebody.hearText("first")), "first");
  await kill();
  somebody.type("second");
  const heard = String(await somebody.hearText("second"));
  // It may have died before the VMM heard that it had written, and then its successor writes again.
  const again = heard.slice(0, -"second".length);
  assert.ok("first".endsWith(again), `"${again}" is not the end of what was there before`);
  await quit(somebody);
  assert.is(await done, 0);
});

const reason = whyNoKvm();
if (reason === undefined) consoles.run();
else skip(reason);
