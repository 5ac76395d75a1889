// Events of the machine → lines for a reader or JSON objects for a program.

import type { GuestExitReason, VmEvent } from "../machine/config.js";
import { paint, printable, STDERR, STDOUT, say, sayJson } from "./output.js";

/** Takes each event as it happens. */
export type EventSink = (event: VmEvent) => void;

type DeviceReady = Extract<VmEvent, { event: "device-ready" }>;

const ENDINGS: Readonly<Record<GuestExitReason, string>> = {
  poweroff: "the guest powered off",
  reboot: "the guest rebooted",
  "triple-fault": "the guest crashed: triple fault",
  "debug-exit": "the guest left through the debug exit",
  stopped: "the guest was stopped",
  "internal-error": "the guest crashed: KVM could not go on",
  "device-failed": "a device failed for good",
};

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function deviceReadyLine(event: DeviceReady): string {
  const { id, pid, isolation } = event;
  if (isolation === "inline") return `${id}: inside the VMM process, not confined`;
  const parts = [
    event.syscalls === null ? "no filter" : plural(event.syscalls, "system call"),
    plural(event.fds, "descriptor"),
    `${event.wxPages} W+X pages`,
    `${event.startMs.toFixed(0)} ms`,
  ];
  const lacks = event.weak === undefined ? "" : `\nweak sandbox, without: ${event.weak.join(", ")}`;
  return `${id}: confined in process ${pid}: ${parts.join(", ")}${lacks}`;
}

/** A line of the log, which names its device once. */
function logLine({ id, text }: Extract<VmEvent, { event: "log" }>): string {
  return id === undefined || text.startsWith(`${id}:`) ? text : `${id}: ${text}`;
}

/** Where to attach, and for a port which of them that is. */
function ptyLine({ id, grant, path }: Extract<VmEvent, { event: "pty" }>): string {
  return `${grant === "tty" ? id : `${id}.${grant}`}: pty ${path}`;
}

/** One line of text about `event`; undefined for what a reader need not be told. */
export function describeEvent(event: VmEvent): string | undefined {
  switch (event.event) {
    case "device-ready":
      return deviceReadyLine(event);
    case "device-exit":
      return `${event.id}: gone: ${event.reason}`;
    case "device-restart":
      return `${event.id}: started again in process ${event.pid}`;
    case "pty":
      return ptyLine(event);
    case "log":
      return logLine(event);
    case "guest-exit":
      return `${ENDINGS[event.reason]}${event.detail === undefined ? "" : ` (${event.detail})`}`;
    case "vmm-ready":
    case "serial":
      return undefined;
  }
}

const CALM_ENDINGS: readonly GuestExitReason[] = ["poweroff", "reboot", "debug-exit", "stopped"];

function styleOf(event: VmEvent): "red" | "yellow" | "dim" {
  if (event.event === "device-exit") return "red";
  if (event.event === "guest-exit") return CALM_ENDINGS.includes(event.reason) ? "dim" : "red";
  if (event.event === "device-ready" && event.weak !== undefined) return "yellow";
  return event.event === "log" && event.level === "warning" ? "yellow" : "dim";
}

/** Prints the guest's serial output on stdout, and a line for each other event on stderr. */
export const textSink: EventSink = (event) => {
  if (event.event === "serial") say(STDOUT, event.text);
  const line = describeEvent(event);
  if (line === undefined) return;
  const text = printable(line).replaceAll("\n", "\n  ");
  say(STDERR, `${paint(STDERR, styleOf(event), `# ${text}`)}\n`);
};

/** Prints each event as one JSON object a line on stdout. */
export const jsonSink: EventSink = (event) => {
  const { event: name, time, ...rest } = event;
  sayJson({ event: name, time, ...rest });
};
