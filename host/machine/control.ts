// The requests of the control socket: `{"id":1,"request":"status"}` on a line, and on a line back
// `{"id":1,"ok":true,…}` or `{"id":1,"ok":false,"error":{"code":…,"message":…}}`.

import { VmmError } from "../errors.js";
import type { DeviceCounters } from "./counters.js";
import { metricsText } from "./metrics.js";

/** What a VM does now; a device that died is `starting` until it is found confined again. */
export type VmState = "running" | "pausing" | "paused" | "stopping";
export type DeviceState = "starting" | "running" | "failed";

export interface DeviceStatus {
  id: string;
  state: DeviceState;
  isolation: "process" | "inline";
  /** Of the process that its code runs in. */
  pid: number;
}

/** The answer to `status`. */
export interface VmStatus {
  name: string;
  pid: number;
  state: VmState;
  /** Milliseconds since the epoch. */
  startedAt: number;
  kernel: string;
  cpus: number;
  memoryBytes: number;
  transport: string;
  seccomp: string;
  devices: DeviceStatus[];
}

/** Figures of a device, with its name: the answer to `counters` has a list of them. */
export type NamedCounters = { id: string } & DeviceCounters;

/** A VM as its control socket knows it. */
export interface Controlled {
  status(): VmStatus;
  counters(): DeviceCounters[];
  /** Halts the guest; it stays in memory and its devices idle. */
  pause(): Promise<void>;
  resume(): void;
  /** Registers of each vCPU and states of each queue, as text. */
  debug(): Promise<string>;
  /** Asks the guest to shut down; false when nobody in it listens. */
  pressPowerButton(): boolean;
  /** Ends the guest, as taking the power from it would. */
  stop(detail: string): void;
}

/** Answers to a request that is wrong; the guest is not touched by any of them. */
class RequestError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** A request, as its client wrote it. */
interface Request {
  id?: unknown;
  request?: unknown;
  /** To `stop`: the guest is not asked. */
  force?: unknown;
}

type Handler = (vm: Controlled, request: Request) => object | Promise<object>;

function namedCounters(vm: Controlled): NamedCounters[] {
  const { devices } = vm.status();
  return vm.counters().map((counters, index) => ({ id: devices[index]!.id, ...counters }));
}

function stateOf(vm: Controlled): Pick<VmStatus, "state"> {
  return { state: vm.status().state };
}

/** The VM's metrics in Prometheus's text format. */
export function metricsOf(vm: Controlled): string {
  return metricsText(vm.status(), vm.counters());
}

const HANDLERS: ReadonlyMap<string, Handler> = new Map<string, Handler>([
  ["status", (vm) => vm.status()],
  ["counters", (vm) => ({ time: Date.now(), devices: namedCounters(vm) })],
  ["metrics", (vm) => ({ text: metricsOf(vm) })],
  ["pause", async (vm) => vm.pause().then(() => stateOf(vm))],
  [
    "resume",
    (vm) => {
      vm.resume();
      return stateOf(vm);
    },
  ],
  ["debug", async (vm) => ({ text: await vm.debug() })],
  [
    "stop",
    (vm, { force }) => {
      const asked = force !== true && vm.pressPowerButton();
      if (!asked) vm.stop("by its control socket");
      return { ...stateOf(vm), asked };
    },
  ],
]);

/** Every word that is a request. */
export const REQUESTS: readonly string[] = [...HANDLERS.keys()];

/** What `line` says, or a RequestError; `heard` gets its id as soon as that is known. */
function parse(line: string, heard: (id: unknown) => void): { handler: Handler; request: Request } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new RequestError("ERR_NOT_JSON", "a request is one line of JSON");
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  const request: Request = isObject ? (value as object) : {};
  heard(request.id ?? null);
  const name = request.request;
  if (typeof name !== "string") {
    throw new RequestError("ERR_NO_REQUEST", 'a request looks like {"id":1,"request":"status"}');
  }
  const handler = HANDLERS.get(name);
  if (handler !== undefined) return { handler, request };
  const known = REQUESTS.join(", ");
  throw new RequestError("ERR_UNKNOWN_REQUEST", `"${name}" is none of ${known}`);
}

/** A line that says no. */
export function refusal(id: unknown, code: string, message: string): string {
  return `${JSON.stringify({ id, ok: false, error: { code, message } })}\n`;
}

/** Does what `line` asks for; returns the line to be said to that. */
export async function answerTo(line: string, vm: Controlled): Promise<string> {
  let id: unknown = null;
  try {
    const { handler, request } = parse(line, (heard) => {
      id = heard;
    });
    return `${JSON.stringify({ id, ok: true, ...(await handler(vm, request)) })}\n`;
  } catch (error) {
    const known = error instanceof RequestError || error instanceof VmmError;
    return refusal(id, known ? error.code : "ERR_INTERNAL", (error as Error).message);
  }
}
