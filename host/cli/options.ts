// The options of `bulkhead run` → a VmConfig. Pure: opens nothing, so every mistake in them is told
// before anything starts.

import type {
  DeviceConfig,
  Isolation,
  SeccompMode,
  Transport,
  VmConfig,
} from "../machine/config.js";
import { faultOfName } from "../machine/control-path.js";
import { CPU_COUNT_MAX, MEMORY_BYTES_MAX, MEMORY_BYTES_MIN } from "../machine/layout.js";
import { deviceConfigs, parseDevice, parseGrant } from "./device.js";
import { parseCpuCount, parseMemorySize } from "./size.js";
import { oneOf, usageError } from "./usage.js";

const ISOLATIONS: readonly Isolation[] = ["process", "inline"];
const ON_DEVICE_FAILURE: readonly VmConfig["onDeviceFailure"][] = ["continue", "stop"];
const SECCOMP_MODES: readonly SeccompMode[] = ["enforce", "log", "off"];

/** How a device is confined: the options that `run` and `demo` share. */
export interface ConfinementOptions {
  isolation: string;
  seccomp: string;
  allowWeakSandbox?: boolean;
}

/** What the user wrote, still as text; `device` and `grant` in the order of the command line. */
export interface RunOptions extends ConfinementOptions {
  kernel?: string;
  initrd?: string;
  params: string[];
  mem: string;
  cpus: string;
  device: string[];
  grant: string[];
  transport?: string;
  serial?: string;
  json?: boolean;
  quiet?: boolean;
  debugExit?: boolean;
  onDeviceFailure: string;
  name?: string;
  apiSocket?: string;
}

function kernelOf(positional: string | undefined, option: string | undefined): string {
  if (positional !== undefined && option !== undefined && positional !== option) {
    throw usageError(`Cannot run two kernels: "${positional}" and -k "${option}"`, "name one");
  }
  const kernel = option ?? positional;
  if (kernel !== undefined && kernel !== "") return kernel;
  throw usageError(
    "Cannot run a guest: no kernel is named",
    "name an ELF or bzImage file, as in: bulkhead run -k vmlinuz -i initrd.img",
  );
}

const TRANSPORTS: readonly Transport[] = ["mmio", "pci"];

/** Undefined leaves it to the kernel. */
function transportOf(name: string | undefined): Pick<VmConfig, "transport"> {
  return name === undefined ? {} : { transport: oneOf("--transport", name, TRANSPORTS) };
}

/** What the VM is called, and where its control socket is; a name tells it from others anyway. */
function controlOf({ name = `guest-${process.pid}`, apiSocket }: RunOptions, given: boolean) {
  const fault = faultOfName(name);
  if (fault !== undefined) throw usageError(`Cannot name a VM "${name}": ${fault}`);
  if (apiSocket === "") throw usageError('Cannot listen at --api-socket "": name a path');
  return { name, required: given, ...(apiSocket === undefined ? {} : { path: apiSocket }) };
}

/** What --seccomp says of the VMM and of every device alike. */
export function seccompOf({ seccomp }: Pick<ConfinementOptions, "seccomp">): SeccompMode {
  return oneOf("--seccomp", seccomp, SECCOMP_MODES);
}

/** The confined devices that `specs` and `grants` describe. */
export function devicesOf(
  specs: readonly string[],
  grants: readonly string[],
  { isolation, seccomp }: ConfinementOptions,
): DeviceConfig[] {
  return deviceConfigs(specs.map(parseDevice), grants.map(parseGrant), {
    isolation: oneOf("--isolation", isolation, ISOLATIONS),
    seccomp: seccompOf({ seccomp }),
  });
}

/** The machine that the options describe; its serial console goes to `serialFd`. ERR_USAGE. */
export function vmConfigOf(kernel: string | undefined, options: RunOptions): VmConfig {
  return {
    kernel: kernelOf(kernel, options.kernel),
    ...(options.initrd === undefined ? {} : { initrd: options.initrd }),
    cmdline: options.params.join(" "),
    memoryBytes: parseMemorySize(options.mem, { min: MEMORY_BYTES_MIN, max: MEMORY_BYTES_MAX }),
    cpuCount: parseCpuCount(options.cpus, { min: 1, max: CPU_COUNT_MAX }),
    devices: devicesOf(options.device, options.grant, options),
    ...transportOf(options.transport),
    debugExit: options.debugExit === true,
    seccomp: seccompOf(options),
    allowWeakSandbox: options.allowWeakSandbox === true,
    onDeviceFailure: oneOf("--on-device-failure", options.onDeviceFailure, ON_DEVICE_FAILURE),
    serialFd: options.json === true ? -1 : 1,
    control: controlOf(options, (options.name ?? options.apiSocket) !== undefined),
  };
}
