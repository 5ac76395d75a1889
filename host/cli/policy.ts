// bulkhead policy: the system calls that a device, or the VMM itself, may make, each with its
// reason.

import { vmmPolicy } from "../machine/confine.js";
import { CONTROL_FD } from "../machine/control-socket.js";
import { type Inspection, inspectDevice } from "../machine/inspect.js";
import { deviceConfigs, parseDevice, parseGrant } from "./device.js";
import { STDOUT, say, sayJson } from "./output.js";
import { checkModule } from "./preflight.js";
import { table } from "./table.js";
import { usageError } from "./usage.js";

export interface PolicyOptions {
  grant: string[];
  json?: boolean;
}

type Rule = Inspection["policy"]["rules"][number];
type ArgTest = Rule["args"][number];

const ALL_BITS = (1n << 64n) - 1n;
const INT_BITS = (1n << 32n) - 1n;

/** Names of the arguments that rules test, from the manual pages. */
const ARGUMENTS: Readonly<Record<string, readonly string[]>> = {
  accept4: ["fd", "addr", "addrlen", "flags"],
  clock_gettime: ["clockid"],
  fcntl: ["fd", "op"],
  getsockopt: ["fd", "level", "optname"],
  ioctl: ["fd", "op"],
  kill: ["pid", "sig"],
  madvise: ["addr", "length", "advice"],
  mmap: ["addr", "length", "prot", "flags", "fd", "offset"],
  mprotect: ["addr", "len", "prot"],
  futex: ["uaddr", "futex_op"],
  newfstatat: ["dirfd", "pathname", "statbuf", "flags"],
  ppoll: ["fds", "nfds", "tmo_p", "sigmask"],
  pidfd_send_signal: ["pidfd", "sig"],
  setsockopt: ["fd", "level", "optname"],
  shutdown: ["fd", "how"],
  tgkill: ["tgid", "tid", "sig"],
  wait4: ["pid", "wstatus", "options"],
};

/** Calls whose first argument is a descriptor: most of those that a grant leads to. */
function argumentName(syscall: string, arg: number): string {
  return ARGUMENTS[syscall]?.[arg] ?? (arg === 0 ? "fd" : `argument ${arg}`);
}

function hex(value: bigint): string {
  return value < 10n ? `${value}` : `0x${value.toString(16)}`;
}

function describeTest(syscall: string, { arg, mask, values }: ArgTest): string {
  const name = argumentName(syscall, arg);
  const whole = mask === ALL_BITS || mask === INT_BITS;
  const inverse = mask ^ ALL_BITS;
  const bits = inverse < mask ? `~${hex(inverse)}` : hex(mask);
  const shown = values.map((value) => (name === "fd" ? `${value}` : hex(value)));
  return `${whole ? name : `${name} & ${bits}`} = ${shown.join(" or ")}`;
}

/** The tests of a rule as a reader writes them: `prot & ~3 = 0, flags = 0x22`. */
export function describeTests({ syscall, args }: Pick<Rule, "syscall" | "args">): string {
  return args.map((test) => describeTest(syscall, test)).join(", ") || "always";
}

/** A policy, and its distinct system calls. */
type Allowed = Pick<Inspection, "policy" | "syscalls">;

/** The rules of a policy as a table. */
export function policyTable({ policy }: Allowed): Promise<string> {
  const rows = policy.rules.map((rule) => [rule.syscall, describeTests(rule), rule.reason]);
  return table(["system call", "allowed if", "reason"], rows);
}

/** The rules of a policy for a program: 64-bit numbers are hexadecimal text. */
export function policyJson({ policy, syscalls }: Allowed): object {
  const rules = policy.rules.map(({ syscall, nr, args, reason }) => ({
    syscall,
    nr,
    args: args.map(({ arg, mask, values }) => ({
      arg,
      mask: `0x${mask.toString(16)}`,
      values: values.map((value) => `0x${value.toString(16)}`),
    })),
    reason,
  }));
  return { syscalls, rules, otherwise: "kill" };
}

/** One line a descriptor of the device's process. */
function descriptorTable({ grants }: Inspection): Promise<string> {
  const rows = grants
    .filter(({ fd }) => fd >= 0)
    .map(({ name, kind, what, rights, fd }) => [
      `${fd}`,
      `${name}: ${kind} ${what}, ${rights.join("+")}`,
    ]);
  return table(["fd", "what it is"], [["3", "socket to the VMM"], ...rows]);
}

/** The word that stands for the VMM where a device could be named. */
const VMM = "vmm";

/** Prints the policy of a VMM without inline devices, with this process's pid for its own. */
async function vmm({ grant, json }: PolicyOptions): Promise<number> {
  if (grant.length > 0) throw usageError("Cannot grant the VMM anything: it is no device");
  const allowed = vmmPolicy({ inline: [], transport: "pci", controlFd: CONTROL_FD });
  if (json === true) {
    sayJson({ id: VMM, ...policyJson(allowed) });
    return 0;
  }
  const count = allowed.syscalls.length;
  say(STDOUT, `When its guest runs, the VMM may make ${count} system calls; any other kills it.\n`);
  say(STDOUT, `${hex(BigInt(process.pid))} stands for its own pid.\n\n`);
  say(STDOUT, await policyTable(allowed));
  return 0;
}

/** Prints the policy that a device of this --device and these --grant options would get. */
export async function policy(spec: string, options: PolicyOptions): Promise<number> {
  if (spec === VMM) return vmm(options);
  const common = { isolation: "process", seccomp: "enforce" } as const;
  const [device] = deviceConfigs([parseDevice(spec)], options.grant.map(parseGrant), common);
  const { id, module, grants } = device!;
  checkModule(id, module);
  const inspection = inspectDevice(module, { id, grants });
  if (options.json === true) {
    sayJson({ id, module, grants: inspection.grants, ...policyJson(inspection) });
    return 0;
  }
  const count = inspection.syscalls.length;
  say(STDOUT, `${id} may make ${count} system calls; any other kills its process.\n\n`);
  say(STDOUT, `${await policyTable(inspection)}\n${await descriptorTable(inspection)}`);
  return 0;
}
