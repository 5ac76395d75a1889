// Events of the machine → lines for a reader or JSON objects for a program.

import type { DeviceConfig, GuestExitReason, VmEvent } from "../machine/config.js";
import { plural } from "./figures.js";
import { remark, STDOUT, say, sayJson } from "./output.js";

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

/** What a device was granted: `image=disk.img (file, read, write)`. */
function grantedText(grants: DeviceConfig["grants"]): string {
  const each = Object.entries(grants).map(([name, { kind, what, rights }]) => {
    return `${name}=${what} (${[kind, ...rights].join(", ")})`;
  });
  return each.join(", ") || "nothing";
}

/** What was granted to whom, and how that is confined. */
function deviceReadyLine(event: DeviceReady, grants: DeviceConfig["grants"]): string {
  const { id, pid, isolation } = event;
  const granted = `${id}: ${grantedText(grants)} →`;
  if (isolation === "inline") return `${granted} inside the VMM process, not confined`;
  const parts = [
    event.syscalls === null ? "no filter" : plural(event.syscalls, "system call"),
    plural(event.fds, "descriptor"),
    `${event.wxPages} W+X pages`,
  ];
  const lacks = event.weak === undefined ? "" : `\nweak sandbox, without: ${event.weak.join(", ")}`;
  return `${granted} process ${pid}: ${parts.join(", ")}${lacks}`;
}

/** A line of the log, which names its device once. */
function logLine({ id, text }: Extract<VmEvent, { event: "log" }>): string {
  return id === undefined || text.startsWith(`${id}:`) ? text : `${id}: ${text}`;
}

/** Where to attach, and for a port which of them that is. */
function ptyLine({ id, grant, path }: Extract<VmEvent, { event: "pty" }>): string {
  return `${grant === "tty" ? id : `${id}.${grant}`}: pty ${path}`;
}

/**
 * One line of text about `event`; undefined for what a reader need not be told.
 *
 * @param grants what the device of the event was granted, if it is of one
 */
export function describeEvent(
  event: VmEvent,
  grants: DeviceConfig["grants"] = {},
): string | undefined {
  switch (event.event) {
    case "device-ready":
      return deviceReadyLine(event, grants);
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

/** What --quiet leaves out: a device that is as it should be. */
function isCalm(event: VmEvent): boolean {
  return event.event === "device-ready" && event.weak === undefined;
}

export interface TextOptions {
  /** Of the VM whose events come. */
  devices: readonly DeviceConfig[];
  quiet?: boolean;
}

/** Prints the guest's serial output on stdout, and a line for each other event on stderr. */
export function textSink({ devices, quiet = false }: TextOptions): EventSink {
  const grants = new Map(devices.map((device) => [device.id, device.grants]));
  return (event) => {
    if (event.event === "serial") say(STDOUT, event.text);
    if (quiet && isCalm(event)) return;
    const line = describeEvent(event, grants.get("id" in event ? (event.id ?? "") : ""));
    if (line === undefined) return;
    remark(line, styleOf(event));
  };
}

/** Prints each event as one JSON object a line on stdout. */
export const jsonSink: EventSink = (event) => {
  const { event: name, time, ...rest } = event;
  sayJson({ event: name, time, ...rest });
};
