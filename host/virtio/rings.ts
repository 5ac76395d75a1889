// Where the three parts of a queue may be, checked when the driver enables it. From then on the
// queue reads and writes them without asking again, so nothing wrong may pass here.

import { addressOf, type GuestMemory, NOT_RAM } from "./memory.js";
import {
  AVAIL_RING,
  DESC_BYTES,
  isQueueSize,
  type Queue,
  USED_ELEM_BYTES,
  USED_RING,
} from "./virtqueue.js";

/** The parts of a queue that have an address, and the halves of that. */
export type QueuePart = "desc" | "driver" | "device";
export type Half = "low" | "high";

/** Two 32-bit halves of an address, written in any order. */
class Address {
  low = 0;
  high = 0;

  get value(): number {
    return addressOf(this.low, this.high);
  }
}

/** Where the driver said that the parts of a queue are. */
export class QueueAddresses {
  readonly desc = new Address();
  readonly driver = new Address();
  readonly device = new Address();
}

interface Part {
  name: string;
  start: number;
  end: number;
  align: number;
}

/** used_event or avail_event, which follow the rings. */
const EVENT_BYTES = 2;

/** The parts of `queue` with their sizes and alignments (virtio v1.2 §2.7). */
function partsOf({ size, desc, driver, device }: Queue): Part[] {
  const availBytes = AVAIL_RING + 2 * size + EVENT_BYTES;
  const usedBytes = USED_RING + USED_ELEM_BYTES * size + EVENT_BYTES;
  return [
    { name: "descriptor table", start: desc, end: desc + DESC_BYTES * size, align: 16 },
    { name: "available ring", start: driver, end: driver + availBytes, align: 2 },
    { name: "used ring", start: device, end: device + usedBytes, align: 4 },
  ];
}

/**
 * What is wrong with size and addresses of `queue`, or "".
 *
 * @param others queues that are enabled: if a used ring lay on another queue's descriptors, our own
 *   writes would become requests that the driver never made
 */
export function ringsFault(
  queue: Queue,
  options: { memory: GuestMemory; others: Queue[] },
): string {
  const { memory, others } = options;
  if (!isQueueSize(queue.size, queue.sizeMax)) return `size ${queue.size} of ${queue.sizeMax}`;
  const parts = partsOf(queue);
  for (const { name, start, end, align } of parts) {
    const at = `${name} at 0x${start.toString(16)}`;
    if (start % align !== 0) return `${at}: not a multiple of ${align} (virtio v1.2 §2.7.1)`;
    if (memory.hvaOf(start, end - start) === NOT_RAM)
      return `${at}: ${end - start} bytes not in RAM`;
  }
  const taken = others.flatMap(partsOf);
  for (const part of parts) {
    const other = taken.find(({ start, end }) => part.start < end && start < part.end);
    if (other !== undefined) return `${part.name}: overlaps the ${other.name} of a queue`;
    taken.push(part);
  }
  return "";
}
