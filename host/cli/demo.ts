// bulkhead demo: boots the built-in guest with two confined devices, and shows what the kernel says
// of their processes while the guest runs.

import { fileURLToPath } from "node:url";
import type { VmConfig, VmEvent } from "../machine/config.js";
import type { DeviceProof, Vm } from "../machine/vm.js";
import { type EventSink, jsonSink, textSink } from "./events.js";
import { type ConfinementOptions, devicesOf, seccompOf } from "./options.js";
import { now, paint, STDOUT, say, sayJson } from "./output.js";
import { checkDebugger, checkFiles } from "./preflight.js";
import { runSession } from "./session.js";
import { loadTables, table } from "./table.js";

export interface DemoOptions extends ConfinementOptions {
  json?: boolean;
}

type DeviceReady = Extract<VmEvent, { event: "device-ready" }>;

/** The guest reads entropy from each rng device, checks it and powers off. */
const GUEST = fileURLToPath(new URL("../../guest/entropy.elf", import.meta.url));
const DEVICES = ["rng", "rng"];
const MEMORY_BYTES = 64 * 1024 * 1024;

const PEERS =
  "For comparison: an rng device of crosvm may make 68 system calls, one of QEMU all but 33,\n" +
  "and both see all of the guest's memory. These processes have none of it mapped.\n";

const INLINE = "An inline device runs in the VMM's own process: only Wasm stands around it.\n";

/** What the devices lack, one line each; empty where nothing is missing. */
function weaknesses(measured: readonly Measured[]): string {
  return measured
    .filter(({ ready }) => ready.weak !== undefined)
    .map(({ ready: { id, weak = [] } }) => `WEAK SANDBOX: ${id} lacks ${weak.join(", ")}\n`)
    .join("");
}

/** What is left to the VMM itself; empty where nothing confines it. */
function vmmLine(syscalls: number | null): string {
  if (syscalls === null) return "";
  const rest = "and none that opens a file, creates a process or reaches another one";
  return `The VMM itself has ${syscalls} system calls left, ${rest}.\n`;
}

/** What a device said when it was ready, and what the kernel says of it later. */
interface Measured {
  ready: DeviceReady;
  proof: DeviceProof["proof"];
}

/** Collects measurements of the devices; the last one before they end counts. */
class Measurements {
  readonly #ready = new Map<string, DeviceReady>();
  #proofs: DeviceProof[] = [];
  #vm: Vm | undefined;
  #measuring = false;
  /** System calls that are left to the VMM; null where it has no filter. */
  vmmSyscalls: number | null = null;

  /** To be called when all devices are confined and the guest is about to run. */
  start(vm: Vm): void {
    this.#vm = vm;
    void this.#measure();
  }

  /** Looks at the devices when the guest says something, unless that is under way. */
  observe(event: VmEvent): void {
    if (event.event === "device-ready") this.#ready.set(event.id, event);
    if (event.event === "vmm-ready") this.vmmSyscalls = event.syscalls;
    if (event.event === "serial" && !this.#measuring) void this.#measure();
  }

  async #measure(): Promise<void> {
    this.#measuring = true;
    try {
      this.#proofs = (await this.#vm?.proofs()) ?? this.#proofs;
    } catch {
      // The guest's last words can come when the devices are gone: what was measured before holds.
    } finally {
      this.#measuring = false;
    }
  }

  get devices(): Measured[] {
    return this.#proofs.flatMap(({ id, proof }) => {
      const ready = this.#ready.get(id);
      return ready === undefined ? [] : [{ ready, proof }];
    });
  }
}

function configOf(options: DemoOptions): VmConfig {
  return {
    kernel: GUEST,
    cmdline: "",
    memoryBytes: MEMORY_BYTES,
    cpuCount: 1,
    devices: devicesOf(DEVICES, [], options),
    debugExit: false,
    seccomp: seccompOf(options),
    allowWeakSandbox: options.allowWeakSandbox === true,
    onDeviceFailure: "stop",
    serialFd: -1,
  };
}

function mebibytes(bytes: number): string {
  return `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

function rowOf({ ready, proof }: Measured): string[] {
  return [
    ready.id,
    `${proof.pid}`,
    ready.isolation,
    ready.syscalls === null ? "all" : `${ready.syscalls}`,
    `${proof.fds.length}`,
    `${proof.wxPages}`,
    mebibytes(proof.privateBytes),
    `${ready.startMs.toFixed(0)} ms`,
  ];
}

const COLUMNS = [
  "device",
  "pid",
  "isolation",
  "system calls",
  "open fds",
  "W+X pages",
  "private memory",
  "start-up",
];

async function report({ devices: measured, vmmSyscalls }: Measurements): Promise<void> {
  const title = "What confines each device, read from /proc while the guest ran:";
  const rows = measured.map(rowOf);
  const confined = measured.every(({ ready }) => ready.isolation === "process");
  const remark = confined ? PEERS : INLINE;
  const lacks = paint(STDOUT, "red", weaknesses(measured));
  const body = `${await table(COLUMNS, rows)}\n${lacks}${vmmLine(vmmSyscalls)}${remark}`;
  say(STDOUT, `\n${paint(STDOUT, "bold", title)}\n\n${body}`);
}

function reportJson(measured: Measured[]): void {
  for (const { ready, proof } of measured) {
    const { id, isolation, syscalls, startMs, weak } = ready;
    const said = { id, isolation, syscalls, startMs, ...(weak === undefined ? {} : { weak }) };
    sayJson({ event: "proof", time: now(), ...said, ...proof });
  }
}

/** Runs the built-in guest; returns the exit status. */
export async function demo(options: DemoOptions): Promise<number> {
  const config = configOf(options);
  checkDebugger(config);
  checkFiles(config);
  const measurements = new Measurements();
  const sink: EventSink = options.json === true ? jsonSink : textSink(config);
  const status = await runSession(config, {
    input: false,
    beforeRun: async (vm) => {
      await loadTables();
      measurements.start(vm);
    },
    onEvent: (event) => {
      measurements.observe(event);
      sink(event);
    },
  });
  if (options.json === true) reportJson(measurements.devices);
  else await report(measurements);
  return status;
}
