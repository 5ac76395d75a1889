// `bulkhead run` in the table of verbs, in lkvm's words where lkvm has one.

import { consoleSpec } from "./device.js";
import type { RunOptions } from "./options.js";
import { CONFINEMENT, type OptionRow, type Verb, verb } from "./verb.js";

/** What the parser collects: `device` in the order of the command line. */
type Parsed = Omit<RunOptions, "params" | "grant" | "device"> &
  Partial<Pick<RunOptions, "params" | "grant" | "device">>;

const MACHINE: readonly OptionRow[] = [
  {
    flags: "-k, --kernel <kernel>",
    summary: "kernel to boot: an ELF vmlinux or a bzImage",
    values: "file",
    details: "The argument KERNEL is the same.",
  },
  { flags: "-i, --initrd <initrd>", summary: "initial RAM disk image", values: "file" },
  {
    flags: "-p, --params <params>",
    summary: "kernel command line arguments",
    repeats: true,
    details: "Several are joined by spaces.",
  },
  {
    flags: "-m, --mem <size>",
    summary: "guest memory: 512M, 1G",
    fallback: "256M",
    details: "Suffixes are B, K, M, G and T; a bare number is in M.",
  },
  { flags: "-c, --cpus <n>", summary: "number of CPUs", fallback: "1" },
];

const DEVICES: readonly OptionRow[] = [
  {
    flags: "--device <spec>",
    summary: "add a device: KIND[,key=value]..., or a .wasm",
    device: (spec) => spec,
    values: "device",
    details: "Devices get the ids KIND0, KIND1, ... in the order of the command line: see DEVICES.",
  },
  {
    flags: "--grant <grant>",
    summary: "ID.NAME=KIND:WHAT[:RIGHTS], what a device may use",
    repeats: true,
    values: "grant",
    details: "bulkhead inspect shows what a device asks for: see GRANTS.",
  },
  {
    flags: "-d, --disk <spec>",
    summary: "add a disk: IMAGE[,ro][,key=value]...",
    device: (spec) => `blk,image=${spec}`,
    values: "disk",
    details: "As --device blk,image=IMAGE does.",
  },
  {
    flags: "--rng",
    summary: "add a source of entropy, /dev/urandom",
    device: () => "rng",
    details: "As --device rng does.",
  },
  {
    flags: "--console <spec>",
    summary: "add a console: virtio (here), pty, unix:PATH or FILE",
    device: consoleSpec,
    values: "file",
    details:
      "virtio is this terminal; pty a new pseudo-terminal, whose path is told; keys of the " +
      "console follow behind commas, port1 to port4 for ports besides it.",
  },
  {
    flags: "--transport <name>",
    summary: "virtio transport: pci or mmio",
    values: ["pci", "mmio"],
    rare: true,
    details: "Without it, pci for a bzImage and mmio for an ELF.",
  },
  {
    flags: "--on-device-failure <what>",
    summary: "when a device fails for good: continue or stop",
    fallback: "continue",
    values: ["continue", "stop"],
    rare: true,
    details: "A device that dies is started again; one that dies again and again stays dead.",
  },
];

const CONTROL: readonly OptionRow[] = [
  {
    flags: "--name <name>",
    summary: "what the VM is called (default: guest-PID)",
    values: [],
    details: "By its name others find it: see bulkhead list.",
  },
  {
    flags: "--api-socket <path>",
    summary: "path of its control socket, instead of one by its name",
    values: "file",
    rare: true,
    details:
      "JSON requests, one a line: status, counters, metrics, pause, resume, stop, debug; and " +
      "GET /metrics for Prometheus. Without it, the socket is NAME.sock in " +
      "$XDG_RUNTIME_DIR/bulkhead, for root in /run/bulkhead, else in /tmp/bulkhead-UID.",
  },
];

const OUTPUT: readonly OptionRow[] = [
  {
    flags: "--serial <file>",
    summary: "write the guest's serial output to a file",
    values: "file",
    details: "It is emptied first. When it cannot be written any more, the guest goes on.",
  },
  {
    flags: "-q, --quiet",
    summary: "do not say what was granted to which device",
    details: "Why the guest ended, and what goes wrong, is always said.",
  },
  { flags: "--json", summary: "print events as JSON, one object a line" },
  {
    flags: "--debug-exit",
    summary: "let a write to port 0x501 end the guest, as in QEMU",
    rare: true,
  },
];

/** lkvm's words for devices that Bulkhead does not have. */
const MISSING: readonly OptionRow[] = [
  { flags: "-n, --network [params]", summary: "network device", missing: "network device" },
  { flags: "--balloon", summary: "memory balloon", missing: "memory balloon" },
  { flags: "--vsock [cid]", summary: "vsock device", missing: "vsock device" },
  { flags: "--9p [dir]", summary: "9p file system", missing: "9p file system" },
];

export const RUN: Verb = verb<string | undefined, Parsed>({
  name: "run",
  summary: "run a guest",
  description: "Run a guest, with each of its devices in a confined process of its own.",
  argument: { form: "[KERNEL]", summary: "kernel image, ELF or bzImage", values: "file" },
  options: [...MACHINE, ...DEVICES, ...CONFINEMENT, ...CONTROL, ...OUTPUT, ...MISSING],
  examples: [
    {
      line: "run -k vmlinuz -i initrd.img -d disk.img -p root=/dev/vda1",
      what: "a distribution's kernel with a disk",
    },
    { line: 'run vmlinux -p "console=ttyS0" --rng', what: "an ELF kernel and entropy" },
    {
      line: "run -k bzImage -i initrd.img -m 512M -c 2 --device rng,source=/dev/hwrng",
      what: "entropy of the host's hardware",
    },
    {
      line: "run -k vmlinux --device ./mine.wasm --grant mine0.image=file:data.bin:ro",
      what: "a device of one's own, which may read one file",
    },
  ],
  details: [
    "Before the guest's first word each device is named with what it was granted, its process, " +
      "and how that is confined; at the end, why the guest ended.",
    "The terminal is the guest's serial console. Ctrl-A x ends the guest, Ctrl-A a sends Ctrl-A, " +
      "Ctrl-A h shows help. SIGTERM, SIGINT, SIGHUP and SIGQUIT end the guest in order, a second " +
      "one at once. The terminal is put back on every way out, also when the VMM is killed.",
    "A guest that is to outlive its terminal is started by setsid(1): Node.js undoes nohup(1).",
  ],
  action: async (kernel, { params = [], grant = [], device = [], ...given }) => {
    return (await import("./run.js")).run(kernel, { ...given, params, grant, device });
  },
});
