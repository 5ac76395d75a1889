// Talks to the control socket of a VM. What a VM says is not to be trusted: its guest may have
// taken it over, and would like to take over the terminal of whoever looks at it.

import { readdirSync } from "node:fs";
import { connect, type Socket } from "node:net";
import path from "node:path";
import { VmmError } from "../errors.js";
import type { NamedCounters, VmStatus } from "../machine/control.js";
import {
  faultOfName,
  findSocket,
  SOCKET_SUFFIX,
  trustedDirectories,
} from "../machine/control-path.js";
import { didYouMean, usageError } from "./usage.js";

/** A VM answers within milliseconds, and within 2 s when a vCPU is busy outside of its guest. */
const ANSWER_MS_MAX = 10_000;
/** Metrics of 16 devices, ten times over. */
const ANSWER_CHARACTERS_MAX = 1024 * 1024;

/** What a socket's file without a VM behind it means. */
const GONE = ["ENOENT", "ECONNREFUSED"];

interface Waiter {
  resolve(answer: object): void;
  reject(error: Error): void;
}

/** Whether nobody answers because there is no such VM any more. */
export function isGone(error: unknown): boolean {
  return error instanceof VmmError && error.code === "ERR_VM_NOT_FOUND";
}

function failed(name: string, cause: string): VmmError {
  return new VmmError("ERR_CONTROL", `Cannot control VM "${name}": ${cause}`);
}

/** A conversation with a VM. */
export class ControlClient {
  readonly name: string;
  readonly #socket: Socket;
  readonly #waiters: Waiter[] = [];
  #rest = "";
  #end = "it ended the conversation, are too many others talking to it?";
  /** Resolves when the VM is gone, or the conversation is. */
  readonly closed: Promise<void>;

  private constructor(name: string, socket: Socket) {
    this.name = name;
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#heard(text));
    socket.on("error", (error) => {
      this.#end = error.message;
    });
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        for (const { reject } of this.#waiters.splice(0)) reject(failed(name, this.#end));
        resolve();
      });
    });
  }

  /** Connects to the socket at `file`; ERR_VM_NOT_FOUND when nobody listens there. */
  static connect(name: string, file: string): Promise<ControlClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(file);
      socket.once("connect", () => {
        socket.removeAllListeners("error");
        resolve(new ControlClient(name, socket));
      });
      socket.once("error", (error: NodeJS.ErrnoException) => {
        const code = error.code ?? "";
        if (GONE.includes(code)) reject(notFound(name, "it has ended, its socket is left behind"));
        else reject(failed(name, `${code}, "${file}" is not open to this user`));
      });
    });
  }

  /** Connects to the VM called `name`, or to the one whose socket is at the path `name`. */
  static async open(name: string): Promise<ControlClient> {
    if (name.includes("/")) return ControlClient.connect(name, name);
    const fault = faultOfName(name);
    if (fault !== undefined) throw usageError(`Cannot control VM "${name}": ${fault}`);
    const file = findSocket(name);
    if (file !== undefined) return ControlClient.connect(name, file);
    throw notFound(name, `no such VM runs, ${didYouMean(name, await namesOfVms())}`);
  }

  #heard(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#rest.length > ANSWER_CHARACTERS_MAX) {
      this.#end = "its answer does not end";
      this.#socket.destroy();
    }
    for (const line of lines) this.#answered(line);
  }

  #answered(line: string): void {
    const waiter = this.#waiters.shift();
    try {
      const answer = JSON.parse(line) as { ok?: boolean; error?: { message?: unknown } };
      if (answer.ok === true) waiter?.resolve(answer);
      else waiter?.reject(failed(this.name, String(answer.error?.message ?? "it refused")));
    } catch {
      waiter?.reject(failed(this.name, "its answer is no JSON"));
    }
  }

  /** Asks for `request`, with `details`; the answer is as the VM's word for it, unchecked. */
  async ask(request: string, details: object = {}): Promise<Record<string, unknown>> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const cause = `no answer in ${ANSWER_MS_MAX / 1000} s, was its process stopped (Ctrl-Z)?`;
      timer = setTimeout(() => reject(failed(this.name, cause)), ANSWER_MS_MAX);
    });
    const answer = new Promise<object>((resolve, reject) => {
      if (this.#socket.destroyed) reject(failed(this.name, this.#end));
      else this.#waiters.push({ resolve, reject });
    });
    this.#socket.write(`${JSON.stringify({ id: 1, request, ...details })}\n`);
    try {
      return (await Promise.race([answer, late])) as Record<string, unknown>;
    } finally {
      clearTimeout(timer);
    }
  }

  async status(): Promise<VmStatus> {
    const { id: _, ok: __, ...status } = await this.ask("status");
    if (Array.isArray(status.devices)) return status as unknown as VmStatus;
    throw failed(this.name, "its status says nothing of devices");
  }

  async counters(): Promise<NamedCounters[]> {
    const { devices } = await this.ask("counters");
    const isFigures = (each: NamedCounters) => Array.isArray(each?.latency);
    if (Array.isArray(devices) && devices.every(isFigures)) return devices;
    throw failed(this.name, "its counters are none");
  }

  close(): void {
    this.#socket.destroy();
  }
}

function notFound(name: string, cause: string): VmmError {
  const advice = "bulkhead list shows which there are";
  return new VmmError("ERR_VM_NOT_FOUND", `Cannot find VM "${name}": ${cause}\n${advice}`);
}

/** A VM that may run: its name, and where its socket is. */
export interface Found {
  name: string;
  file: string;
}

/** Every socket in the places for VMs of this user; of two with one name the first counts. */
export function socketsOfVms(): Found[] {
  const found = new Map<string, Found>();
  for (const directory of trustedDirectories()) {
    for (const file of filesIn(directory)) {
      if (!file.endsWith(SOCKET_SUFFIX)) continue;
      const name = file.slice(0, -SOCKET_SUFFIX.length);
      if (!found.has(name)) found.set(name, { name, file: path.join(directory, file) });
    }
  }
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // no VM was ever started here
  }
}

/** Names of the VMs that answer, for a socket is left behind by one that was killed; or of all. */
function namesOfVms(): Promise<string[]> {
  const all = () => socketsOfVms().map(({ name }) => name);
  return withVms(async ({ name }) => name).catch(all);
}

/** Runs `body` with a conversation with each VM of this user; one that is gone is left out. */
export async function withVms<T>(body: (vm: ControlClient) => Promise<T>): Promise<T[]> {
  const results = await Promise.all(
    socketsOfVms().map(async ({ name, file }) => {
      let vm: ControlClient | undefined;
      try {
        vm = await ControlClient.connect(name, file);
        return [await body(vm)];
      } catch (error) {
        if (isGone(error)) return [];
        throw error;
      } finally {
        vm?.close();
      }
    }),
  );
  return results.flat();
}
