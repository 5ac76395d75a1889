// A device process that, once confined, does what its id says: the attacker's place, and the place
// where V8 is made to work hard. `weak` in front of the lock-down is what the canaries use.

import fs from "node:fs";
import os from "node:os";
import { _exit, errno, recvmsg, sendmsg, syscall, viewOf } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { Forwarder, type Signature } from "../../host/sandbox/forwarder.js";
import { type DeviceSetup, lockDown, MODULE_FD, SOCKET_FD } from "../../host/sandbox/lockdown.js";
import { syscallNumber } from "../../host/sandbox/syscalls.js";

const BUFFER_BYTES = 4096;
const buffer = Mapping.anonymous(BUFFER_BYTES);
/** struct msghdr (bits/socket.h) followed by its one struct iovec. */
const msghdr = Mapping.anonymous(56 + 16);
msghdr.view.setBigUint64(16, BigInt(msghdr.address + 56), true);
msghdr.view.setBigUint64(24, 1n, true);
msghdr.view.setBigUint64(56, BigInt(buffer.address), true);

function say(text: string): void {
  const { written } = new TextEncoder().encodeInto(text, new Uint8Array(buffer.view.buffer));
  msghdr.view.setBigUint64(64, BigInt(written), true);
  sendmsg(SOCKET_FD, msghdr.address, 0);
}

/** Returns when the VMM has sent something or gone. */
function hear(): void {
  msghdr.view.setBigUint64(64, BigInt(BUFFER_BYTES), true);
  recvmsg(SOCKET_FD, msghdr.address, 0);
}

/** The module of descriptor 4, with an import that counts its calls. */
interface Guest {
  add(a: number, b: number): number;
  outOfBounds(): number;
  recurse(): void;
}

function compile(): WebAssembly.Module {
  const module = new WebAssembly.Module(fs.readFileSync(MODULE_FD));
  fs.closeSync(MODULE_FD);
  return module;
}

function instantiate(module: WebAssembly.Module): WebAssembly.Exports {
  // Declared with one parameter, as the module imports it: V8 then needs no adapter.
  const imports = { wasi_snapshot_preview1: { fd_read: (value: number) => value + 1 } };
  return new WebAssembly.Instance(module, imports).exports;
}

const SIGNATURES: Record<string, Signature> = {
  add: { parameters: ["i32", "i32"], results: ["i32"] },
  outOfBounds: { parameters: [], results: ["i32"] },
  recurse: { parameters: [], results: [] },
};

/** Everything that makes V8 collect, move, grow, shrink, give up views and run finalizers. */
function churn(guest: Forwarder<Guest>, rounds: number): number {
  const registry = new FinalizationRegistry(() => {});
  const page = Mapping.anonymous(BUFFER_BYTES);
  const kept: unknown[] = [];
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < 5000; i++) sum = guest.call.add(sum, i) | 0;
    for (let i = 0; i < 20_000; i++) kept[i % 5003] = { text: `${round} ${i}`, list: [i, { i }] };
    kept[round % 5003] = new Uint8Array(100_000);
    registry.register({ round }, round);
    viewOf(page.address, BUFFER_BYTES);
    /^(a+)+b$|round (\d+)/.exec(`round ${round}`);
    kept[0] = JSON.parse(JSON.stringify({ round, when: new Date(round) }));
    kept[1] = new Function("a", `return a + ${round}`)(round);
    kept[2] = [3, 1, 2]
      .sort((a, b) => a - b)
      .map(String)
      .join();
    if (round % 4 === 0) globalThis.gc?.();
  }
  return sum;
}

/** Uses up memory until something ends it. */
function hog(): never {
  const all: Uint8Array[] = [];
  for (;;) all.push(new Uint8Array(1024 * 1024).fill(1));
}

function failure(action: () => unknown): string {
  try {
    action();
    return "nothing happened";
  } catch (error) {
    return String(error);
  }
}

function act(words: string[], guest: Forwarder<Guest>): string {
  const [verb, name = "", ...numbers] = words;
  const args = [...numbers.map(Number), 0, 0, 0, 0, 0, 0];
  switch (verb) {
    case "call": {
      const [a, b, c, d, e, f] = args as [number, number, number, number, number, number];
      const result = syscall(syscallNumber(name), a, b, c, d, e, f);
      return result === -1 ? `errno ${errno()}` : `result ${result}`;
    }
    case "churn":
      return `sum ${churn(guest, Number(name))}`;
    case "add":
      return `sum ${guest.call.add(Number(name), args[0]!)}`;
    case "trap":
      return `${failure(() => guest.call.outOfBounds())}; ${failure(() => guest.call.recurse())}`;
    case "reopen":
      return failure(() => fs.openSync(process.argv[1]!, "r"));
    case "hostname":
      return os.hostname();
    case "hog":
      return hog();
    default:
      return "nothing to do";
  }
}

function main(): never {
  const setup = JSON.parse(process.argv[2]!) as DeviceSetup;
  const module = compile();
  const guest = new Forwarder<Guest>(instantiate(module), SIGNATURES);
  const report = lockDown(setup, [{ module: "wasi_snapshot_preview1", name: "fd_read" }]);
  say(JSON.stringify(report));
  hear();
  say(act(setup.id.split(" "), guest));
  hear();
  return _exit(0);
}

main();
