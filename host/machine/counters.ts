// What each device has done so far, in memory that the I/O worker writes and the supervisor reads
// whenever it is asked: neither waits for the other. Words are 64-bit floats, exact up to 2^53,
// each of which x86-64 stores in one piece; there is one writer, so nothing is lost.
//
//   0 requests │ 1 … 7 see below │ 8 … latency histogram, LATENCY_BUCKETS words │ next device

import type { Meter } from "../virtio/meter.js";

const REQUESTS = 0;
const BYTES_TO_DEVICE = 1;
const BYTES_FROM_DEVICE = 2;
const KICKS = 3;
const MESSAGES_TO_DEVICE = 4;
const MESSAGES_FROM_DEVICE = 5;
const STARTS = 6;
const LATENCY_SUM_US = 7;
const LATENCY = 8;

/**
 * Bucket 0 holds requests below 1 µs, bucket i those from 2^(i-1) to 2^i µs, and the last one all
 * that took longer: half an hour.
 */
export const LATENCY_BUCKETS = 32;
const LATENCY_US_MAX = 2 ** (LATENCY_BUCKETS - 1) - 1;

const DEVICE_WORDS = LATENCY + LATENCY_BUCKETS;

/** All figures of one device since the VM was started. */
export interface DeviceCounters {
  /** Chains that were answered. */
  requests: number;
  /** Bytes of them that the device could read, and that it wrote. */
  bytesToDevice: number;
  bytesFromDevice: number;
  /** Times that its driver notified it of new chains. */
  kicks: number;
  /** Messages over its socket, lines of its log aside. */
  messagesToDevice: number;
  messagesFromDevice: number;
  /** Times that its code was started again. */
  restarts: number;
  latencySumUs: number;
  /** Requests by latency, see LATENCY_BUCKETS. */
  latency: number[];
}

/** The figures of device `device`: the I/O worker's end, which alone may write. */
export class CounterWriter implements Meter {
  readonly #words: Float64Array;
  readonly now: () => number;
  /** Messages to and from earlier processes of this device. */
  #sentBefore = 0;
  #receivedBefore = 0;

  /** @param now milliseconds of a clock that never goes back, other than this machine's */
  constructor(buffer: SharedArrayBuffer, device: number, now = () => performance.now()) {
    this.#words = wordsOf(buffer, device);
    this.now = now;
  }

  answered(readable: number, written: number, latencyMs: number): void {
    const words = this.#words;
    const us = Math.min(latencyMs * 1000, LATENCY_US_MAX);
    words[REQUESTS]! += 1;
    words[BYTES_TO_DEVICE]! += readable;
    words[BYTES_FROM_DEVICE]! += written;
    words[LATENCY_SUM_US]! += us;
    words[LATENCY + 32 - Math.clz32(us)]! += 1;
  }

  kicked(): void {
    this.#words[KICKS]! += 1;
  }

  /** The device's code was started; messages are counted from zero again. */
  started(): void {
    this.#sentBefore = this.#words[MESSAGES_TO_DEVICE]!;
    this.#receivedBefore = this.#words[MESSAGES_FROM_DEVICE]!;
    this.#words[STARTS]! += 1;
  }

  /** Messages to and from the device since it was started. */
  messages(sent: number, received: number): void {
    this.#words[MESSAGES_TO_DEVICE] = this.#sentBefore + sent;
    this.#words[MESSAGES_FROM_DEVICE] = this.#receivedBefore + received;
  }
}

function wordsOf(buffer: SharedArrayBuffer, device: number): Float64Array {
  return new Float64Array(buffer, device * DEVICE_WORDS * 8, DEVICE_WORDS);
}

/** Memory for the figures of `deviceCount` devices. */
export function createCounters(deviceCount: number): SharedArrayBuffer {
  return new SharedArrayBuffer(deviceCount * DEVICE_WORDS * 8);
}

/** The figures of device `device`, now; from any thread. */
export function readCounters(buffer: SharedArrayBuffer, device: number): DeviceCounters {
  const words = wordsOf(buffer, device);
  const word = (index: number) => words[index]!;
  return {
    requests: word(REQUESTS),
    bytesToDevice: word(BYTES_TO_DEVICE),
    bytesFromDevice: word(BYTES_FROM_DEVICE),
    kicks: word(KICKS),
    messagesToDevice: word(MESSAGES_TO_DEVICE),
    messagesFromDevice: word(MESSAGES_FROM_DEVICE),
    restarts: Math.max(0, word(STARTS) - 1),
    latencySumUs: Math.round(word(LATENCY_SUM_US)),
    latency: [...words.subarray(LATENCY)],
  };
}
