import { test } from "uvu";
import * as assert from "uvu/assert";
import { type RunOptions, vmConfigOf } from "../../host/cli/options.js";
import { programOf } from "../../host/cli/program.js";
import { RUN } from "../../host/cli/run-verb.js";

/** What `run` is called with for these arguments. */
async function parse(args: string[]): Promise<{ kernel: string | undefined; options: RunOptions }> {
  const seen: { kernel: string | undefined; options: RunOptions }[] = [];
  const action = async (kernel: string | undefined, options: Partial<RunOptions>) => {
    const lists = { params: [], grant: [], device: [] };
    seen.push({ kernel, options: { ...lists, ...options } as RunOptions });
    return 0;
  };
  await programOf([{ ...RUN, action }], () => {}).parseAsync(["node", "bulkhead", "run", ...args]);
  return seen[0]!;
}

async function configOf(...args: string[]) {
  const { kernel, options } = await parse(args);
  return vmConfigOf(kernel, options);
}

async function refusal(...args: string[]): Promise<string> {
  try {
    await configOf(...args);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error(`${args.join(" ")} was accepted`);
}

test("run takes lkvm's options for kernel, initrd, parameters, memory and CPUs", async () => {
  const config = await configOf("-k", "k", "-i", "i", "-p", "a b", "-m", "64M", "-c", "2");
  assert.equal(config, {
    kernel: "k",
    initrd: "i",
    cmdline: "a b",
    memoryBytes: 64 * 1024 ** 2,
    cpuCount: 2,
    devices: [],
    debugExit: false,
    seccomp: "enforce",
    allowWeakSandbox: false,
    onDeviceFailure: "continue",
    serialFd: 1,
    control: { name: `guest-${process.pid}`, required: false },
  });
});

test("run takes a name and a socket for control, which it then must have", async () => {
  assert.equal((await configOf("k", "--name", "web")).control, { name: "web", required: true });
  const { control } = await configOf("k", "--api-socket", "a/b");
  assert.equal(control, { name: `guest-${process.pid}`, path: "a/b", required: true });
  for (const name of ["", "-a", ".a", "a/b", "a b", "ä", "a\n"]) {
    assert.match(await refusal("k", "--name", name), /^Cannot name a VM "/, name);
  }
  assert.match(await refusal("k", "--name", "x".repeat(49)), "49 characters, 48 is the most");
  assert.match(await refusal("k", "--api-socket", ""), "name a path");
});

test("run takes the long options that lkvm has", async () => {
  const config = await configOf("--kernel", "k", "--mem", "1G", "--cpus", "3", "--params", "p");
  assert.is(config.kernel, "k");
  assert.is(config.memoryBytes, 1024 ** 3);
  assert.is(config.cpuCount, 3);
});

test("run takes the kernel as an argument", async () => {
  assert.is((await configOf("vmlinux")).kernel, "vmlinux");
  assert.is((await configOf("vmlinux", "-k", "vmlinux")).kernel, "vmlinux");
});

test("run refuses two kernels and none", async () => {
  assert.match(await refusal("a", "-k", "b"), /two kernels: "a" and -k "b"/);
  assert.match(await refusal(), /no kernel is named/);
});

test("run joins several --params in order", async () => {
  assert.is((await configOf("k", "-p", "a", "-p", "b c")).cmdline, "a b c");
});

test("run keeps --device and --rng in the order of the command line", async () => {
  const { devices } = await configOf("k", "--device", "./a.wasm", "--rng", "--device", "./b.wasm");
  assert.equal(
    devices.map(({ id }) => id),
    ["a0", "rng0", "b0"],
  );
});

test("run confines every device with a process and an enforced filter by default", async () => {
  const { devices } = await configOf("k", "--rng");
  assert.is(devices[0]?.isolation, "process");
  assert.is(devices[0]?.seccomp, "enforce");
});

test("run passes --isolation, --seccomp and --allow-weak-sandbox on", async () => {
  const options = ["--isolation", "inline", "--seccomp", "log", "--allow-weak-sandbox"];
  const config = await configOf("k", "--rng", ...options);
  assert.is(config.devices[0]?.isolation, "inline");
  assert.is(config.devices[0]?.seccomp, "log");
  assert.is(config.allowWeakSandbox, true);
});

test("run refuses an isolation and a seccomp mode that do not exist", async () => {
  assert.match(await refusal("k", "--isolation", "none"), /none of process, inline/);
  assert.match(await refusal("k", "--seccomp", "on"), /none of enforce, log, off/);
});

test("run takes --transport mmio or pci, and leaves it to the kernel otherwise", async () => {
  assert.is((await configOf("k", "--transport", "mmio")).transport, "mmio");
  assert.is((await configOf("k", "--transport", "pci")).transport, "pci");
  assert.is((await configOf("k")).transport, undefined);
  assert.match(await refusal("k", "--transport", "isa"), /none of mmio, pci/);
});

test("run goes on without a device that failed for good, unless told to stop", async () => {
  assert.is((await configOf("k", "--on-device-failure", "stop")).onDeviceFailure, "stop");
  assert.match(await refusal("k", "--on-device-failure", "panic"), /none of continue, stop/);
});

test("run delivers the serial output as events with --json", async () => {
  assert.is((await configOf("k", "--json")).serialFd, -1);
});

test("run takes the memory size and CPU count from the limits of the machine", async () => {
  assert.match(await refusal("k", "-m", "1M"), /memory size "1M": too little/);
  assert.match(await refusal("k", "-c", "255"), /CPU count "255": out of range/);
});

test.run();
