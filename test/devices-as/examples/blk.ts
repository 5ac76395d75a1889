// What the tests of the disks among the examples share: requests as virtio v1.2 §5.2.6 has them.

import type { DeviceUnderTest, Posted } from "../../../host/testing/main.js";

export const SECTOR_BYTES = 512;
export const IN = 0;
export const OUT = 1;
export const FLUSH = 4;
export const GET_ID = 8;
export const OK = 0;
export const IOERR = 1;
export const UNSUPP = 2;

/** The debug build of an example. */
export function example(name: string): URL {
  return new URL(`../../../devices/examples/${name}.debug.wasm`, import.meta.url);
}

export interface Request {
  type: number;
  sector?: bigint | number;
  /** What is written. */
  data?: Uint8Array;
  /** How much is read. */
  room?: number;
}

export function encode({ type, sector = 0, data = new Uint8Array() }: Request): Uint8Array {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(type);
  header.writeBigUInt64LE(BigInt(sector), 8);
  return Buffer.concat([header, data]);
}

/** Gives the device a request that it may let wait. */
export function post(device: DeviceUnderTest, request: Request): Posted {
  return device.post(0, encode(request), (request.room ?? 0) + 1);
}

export interface Answer {
  status: number;
  data: Uint8Array;
}

/** The data of an answer, and the status behind it. */
export function answerOf({ reply }: Posted): Answer {
  return { status: reply.at(-1)!, data: reply.slice(0, -1) };
}

export function ask(device: DeviceUnderTest, request: Request): Answer {
  return answerOf(post(device, request));
}
