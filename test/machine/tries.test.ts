import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  complaint,
  emulatorSymptom,
  GUEST_TRIES_MAX,
  HOSTS_MAX,
  Tries,
  withoutSigns,
} from "./tries.js";

/** What a guest wrote that got an interrupt twice, shortened. */
const OOPS = `# rng0: confined in process 127: 12 system calls, 5 descriptors, 0 W+X pages, 905 ms
[    0.527395] PCI: Fatal: No config space access function found
guest: rng_current virtio_rng.0
[   18.852974] BUG: ENTRY_TRAMPOLINE stack guard page was hit at 0000000038889190
[   18.854488] stack guard page: 0000 [#1] PREEMPT SMP NOPTI
[   18.857165]  <ENTRY_TRAMPOLINE>
[   18.859099]  asm_common_interrupt+0x22/0x40
[   18.859343] Modules linked in: virtio_rng virtio_pci virtio_mmio virtio virtio_ring
[   22.297620] Kernel panic - not syncing: Fatal exception in interrupt
# the guest rebooted
`;
const GOOD = "guest: interrupts  16:  0  4096   IO-APIC  16-edge      virtio0\nguest: done\n";

const ended = (output: string, status = 0) => ({ status, output, seconds: 1 });
const host = (...outputs: [index: number, output: string][]) => ({
  results: new Map(outputs.map(([index, output]) => [index, ended(output)])),
  unfinished: undefined,
});
const never = () => false;

/** The symptom of a job that ended with this output. */
const symptomOf = (output: string, status = 0) => emulatorSymptom(ended(output, status));

test("emulatorSymptom names the end of a guest that the emulator caused", () => {
  const named = (output: string) => symptomOf(output)?.split(":")[0];
  assert.is(named(OOPS), "kernel oops in the guest");
  assert.is(named("[    1.0] general protection fault, 0000 [#1]\n"), "kernel oops in the guest");
  assert.is(named("[    1.0] Oops: 0002 [#1] PREEMPT SMP\n"), "kernel oops in the guest");
  assert.is(named("# the guest crashed: triple fault\n"), "triple fault");
  const internal = "# the guest crashed: KVM could not go on (KVM_EXIT_INTERNAL_ERROR, suberror 1)";
  assert.is(named(internal), "KVM internal error");
});

test("emulatorSymptom finds nothing in a good run, or a guest that merely ended", () => {
  assert.is(symptomOf(GOOD), undefined);
  assert.is(symptomOf("Killed\n", 137), undefined);
  assert.is(symptomOf("[   30.1] rcu: INFO: rcu_preempt detected stalls\n"), undefined);
  assert.is(symptomOf("[   30.1] watchdog: BUG: soft lockup - CPU#1 stuck\n"), undefined);
  assert.is(symptomOf("# the guest rebooted\n"), undefined);
});

test("a hang is the emulator's when the guest's kernel has fallen silent, or else ours", () => {
  const begin = "guest: rng_current virtio_rng.0\n";
  const hang = (signs: number, end = "Killed\n") => {
    const output = `${begin}${"[    9.1] guest: alive\n".repeat(signs)}${end}`;
    return emulatorSymptom({ status: 137, output, seconds: 240 });
  };
  assert.match(hang(3) ?? "", /no sign of life/);
  assert.is(hang(70), undefined, "its kernel lives, and waits for the device");
  assert.is(hang(3, "guest: done\n"), undefined, "it had ended, and the VMM had not");
});

test("an oops is no symptom when anything was said against a device or its driver", () => {
  for (const line of [
    "# rng0: driver bug: notify of queue 7, which is not there",
    "# rng0: device bug: sent a reply that nobody waits for",
    "# rng0: gone: killed by SIGSYS",
    "[   18.1] virtio_rng virtio0: requests:id 3 is not a head!",
    "[   18.1] CPU: 1 PID: 33 Comm: hwrng Tainted: G        W          6.1.0",
    "[   18.1]  vring_interrupt+0x5d/0xa0",
    "[   18.1] RIP: 0010:virtqueue_get_buf_ctx+0x3a/0x2f0 [virtio_ring]",
  ]) {
    assert.ok(complaint(`${line}\n${OOPS}`), line);
    assert.is(symptomOf(`${line}\n${OOPS}`), undefined, line);
  }
  assert.is(complaint(OOPS), undefined);
  assert.is(complaint(GOOD), undefined);
});

test("a guest that the emulator kills runs again, so often, and each try is shown", () => {
  const tries = new Tries(2, never);
  const notes = tries.take(host([0, OOPS], [1, GOOD]));
  assert.match(notes[0]!, /^job 0, try 1 of \d: kernel oops in the guest: /);
  assert.is(notes[1], OOPS);
  for (let i = 2; i < GUEST_TRIES_MAX; i++) {
    assert.equal(tries.left(), [0]);
    assert.is(tries.take(host([0, OOPS])).length, 2);
  }
  assert.equal(tries.left(), [0]);
  assert.equal(tries.take(host([0, OOPS])), []);
  assert.equal(tries.left(), []);
  assert.is(tries.hosts, GUEST_TRIES_MAX);
  assert.is(tries.result(0)!.output, OOPS, "the test sees the failure");
});

test("the result of a repeated job is that of the last try", () => {
  const tries = new Tries(1, never);
  tries.take(host([0, OOPS]));
  tries.take(host([0, GOOD]));
  assert.equal(tries.left(), []);
  assert.is(tries.result(0)!.output, GOOD);
});

test("a wrong result counts, whatever the guest dies of", () => {
  const tries = new Tries(1, (index, output) => index === 0 && output.includes("read 3 bytes"));
  const output = `guest: read 3 bytes\n${OOPS}`;
  assert.equal(tries.take(host([0, output])), []);
  assert.equal(tries.left(), []);
  assert.is(tries.result(0)!.output, output);
});

test("a failure without a symptom counts at once", () => {
  const tries = new Tries(1, never);
  tries.take({ results: new Map([[0, ended("Killed\n", 137)]]), unfinished: undefined });
  assert.equal(tries.left(), []);
  assert.is(tries.result(0)!.status, 137);
});

test("what a vanished host had not ended runs again, until there were hosts enough", () => {
  const tries = new Tries(2, never);
  const vanished = { results: new Map(), unfinished: { index: 0, output: "half a li" } };
  assert.equal(tries.take(vanished), ["job 0 was running on it:", "half a li"]);
  assert.equal(tries.left(), [0, 1]);
  for (let i = 1; i < HOSTS_MAX; i++) tries.take(vanished);
  assert.equal(tries.left(), []);
  assert.is(tries.hosts, HOSTS_MAX);
  assert.is(tries.result(0), undefined);
});

test("the failed try is the result when all later hosts vanish", () => {
  const tries = new Tries(1, never);
  tries.take(host([0, OOPS]));
  const vanished = { results: new Map(), unfinished: { index: 0, output: "" } };
  for (let i = 1; i < HOSTS_MAX; i++) tries.take(vanished);
  assert.equal(tries.left(), []);
  assert.is(tries.result(0)!.output, OOPS);
});

test("a job that had failed before its host vanished does not run again", () => {
  const output = "# rng0: driver bug: queue 0: a chain that loops\n";
  const tries = new Tries(1, never);
  const notes = tries.take({ results: new Map(), unfinished: { index: 0, output } });
  assert.match(notes[0]!, /^job 0 had failed before: driver bug: /);
  assert.equal(tries.left(), []);
  assert.is(tries.result(0)!.status, 137);
});

test("withoutSigns() joins what a sign of life has cut", () => {
  const cut = "guest: keyboar[    7.945450] guest: alive, 7 bytes\r\nd\r\n[    8.1] guest: alive\n";
  assert.is(withoutSigns(cut), "guest: keyboard\r\n");
  assert.is(withoutSigns("[    8.1] kernel: else\n"), "[    8.1] kernel: else\n");
});

test.run();
