// Entry of a device process: load, lock down, then serve until the VMM closes the socket. No
// instruction of the module runs, and no byte of the guest is read, before the lock-down.

import { closeSync, fstatSync, readSync } from "node:fs";
import { VmmError } from "../errors.js";
import { _exit } from "../ffi/libc.js";
import { type DeviceSetup, lockDown, MODULE_FD, SOCKET_FD } from "../sandbox/lockdown.js";
import { MODULE_BYTES_MAX } from "../sandbox/manifest.js";
import { SocketChannel } from "../wire/channel.js";
import { LOG, READY } from "../wire/format.js";
import { encodeControl, LOG_BYTES_MAX, READY_BYTES_MAX } from "../wire/message.js";
import { awaitableOf } from "./attention.js";
import { Awakener } from "./awakener.js";
import { ProtocolError } from "./dispatch.js";
import { DeviceFault, DeviceInstance } from "./instance.js";
import { lastWords } from "./last-words.js";
import { Pump } from "./pump.js";
import { Service } from "./service.js";
import { Sleeper } from "./sleeper.js";
import { STATUS } from "./status.js";
import { GrantedFiles } from "./wasi_snapshot_preview1.js";

/** Reads the module and closes its descriptor: a confined process has its grants and no other. */
function readModule(): Uint8Array {
  const { size } = fstatSync(MODULE_FD);
  if (size > MODULE_BYTES_MAX) {
    throw new VmmError("ERR_MODULE", `Cannot load the module: ${size} bytes, at most 1 MiB`);
  }
  const module = new Uint8Array(size);
  let length = 0;
  while (length < size) {
    const bytes = readSync(MODULE_FD, module, length, size - length, length);
    if (bytes === 0) break;
    length += bytes;
  }
  closeSync(MODULE_FD);
  return module.subarray(0, length);
}

function sendText(channel: SocketChannel, type: number, text: string): void {
  const bytesMax = type === READY ? READY_BYTES_MAX : LOG_BYTES_MAX;
  const scratch = channel.outgoingControl;
  channel.gatherControl(encodeControl(channel.outgoing, { type, text, scratch, bytesMax }));
  channel.send();
}

/** Messages before a look at anything else, for a device that waits for nothing else. */
const FOR_EVER = 0xffff_ffff;

function run(channel: SocketChannel, setup: DeviceSetup): never {
  let pump: Pump | undefined;
  const device = DeviceInstance.create(
    readModule(),
    ({ manifest }) => new GrantedFiles(manifest, setup.grants),
    (exports) => (pump = new Pump(exports)),
  );
  const closed = () => _exit(STATUS.closed);
  const service = new Service(channel, { device, pump: pump!, closed });
  const awaitable = awaitableOf(device.facts.manifest, setup.grants, (index) =>
    device.connectionOf(index),
  );
  device.say = (line) => channel.say(line);
  const report = lockDown(setup, device.facts.imports);
  service.start(setup.options);
  sendText(channel, READY, JSON.stringify({ ...report, withheld: device.attention.withheld }));
  if (awaitable === undefined) for (;;) service.serve(FOR_EVER);
  const sleeper = new Sleeper(SOCKET_FD, awaitable);
  const awakener = new Awakener(channel, device.attention, sleeper);
  const wake = () => service.wake();
  for (;;) if (awakener.sleep(wake)) service.serve(1);
}

function statusOf(error: unknown): number {
  if (error instanceof DeviceFault) return STATUS.trapped;
  if (error instanceof ProtocolError) return STATUS.protocol;
  return error instanceof VmmError ? error.exitStatus : STATUS.internal;
}

function main(): never {
  const channel = new SocketChannel(SOCKET_FD, { blocking: true });
  try {
    run(channel, JSON.parse(process.argv[2] ?? "") as DeviceSetup);
  } catch (error) {
    sendText(channel, LOG, lastWords(error));
    return _exit(statusOf(error));
  }
}

main();
