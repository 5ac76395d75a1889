// Guest RAM: one memfd, mapped once; every thread of the VMM makes its own windows onto the
// mapping. No other process ever gets the descriptor.

import { VmmError } from "../errors.js";
import { checked, close, ftruncate, memfd_create, viewOf } from "../ffi/libc.js";
import { Mapping, VIEW_BYTES_MAX } from "../ffi/memory.js";
import type { Vm } from "../kvm/kvm.js";
import { type RamRegion, ramRegions } from "./layout.js";

const MFD_CLOEXEC = 1;

/** A stretch of RAM that one ArrayBuffer can cover. */
export interface RamWindow {
  gpa: number;
  hva: number;
  bytes: number;
  /** A new one each time: whoever needs it keeps it. */
  readonly buffer: ArrayBuffer;
}

/** The windows of RAM mapped at `address`, for this thread; the mapping must outlive them. */
export function ramWindows(address: number, memoryBytes: number): RamWindow[] {
  return ramRegions(memoryBytes).flatMap((region) => windowsOf(region, address));
}

function windowsOf(region: RamRegion, address: number): RamWindow[] {
  const windows: RamWindow[] = [];
  for (let start = 0; start < region.bytes; start += VIEW_BYTES_MAX) {
    const bytes = Math.min(VIEW_BYTES_MAX, region.bytes - start);
    const hva = address + region.offset + start;
    windows.push({
      gpa: region.gpa + start,
      hva,
      bytes,
      get buffer() {
        return viewOf(hva, bytes);
      },
    });
  }
  return windows;
}

/** The supervisor's hold on RAM. */
export class Ram {
  readonly address: number;
  readonly bytes: number;
  readonly #mapping: Mapping;

  private constructor(mapping: Mapping) {
    this.#mapping = mapping;
    this.address = mapping.address;
    this.bytes = mapping.bytes;
  }

  /** `bytes` of zeroed RAM; pages are taken from the host as the guest touches them. */
  static create(bytes: number): Ram {
    ramRegions(bytes);
    const fd = checked(
      memfd_create("guest-ram", MFD_CLOEXEC),
      "memfd_create",
      `Cannot make guest RAM of ${bytes} bytes`,
    );
    checked(ftruncate(fd, bytes), "ftruncate", `Cannot make guest RAM of ${bytes} bytes`);
    const mapping = Mapping.shared(fd, bytes);
    close(fd);
    return new Ram(mapping);
  }

  /** Gives RAM to the guest, a memory slot a region. */
  async mapInto(vm: Vm): Promise<void> {
    for (const [slot, region] of ramRegions(this.bytes).entries()) {
      const { gpa, bytes, offset } = region;
      await vm.mapMemory(slot, { gpa, bytes, hva: this.address + offset });
    }
  }

  /**
   * Copies `bytes` to guest address `gpa`, before the guest runs. Only that much is made visible to
   * JavaScript: V8 counts what it sees as its own, and would begin to collect garbage.
   */
  write(gpa: number, bytes: Uint8Array): void {
    let done = 0;
    while (done < bytes.length) {
      const at = gpa + done;
      const regions = ramRegions(this.bytes);
      const region = regions.find((each) => at >= each.gpa && at < each.gpa + each.bytes);
      if (region === undefined) {
        const end = gpa + bytes.length;
        const range = `0x${gpa.toString(16)}–0x${end.toString(16)}`;
        const message = `Cannot load at ${range}: not RAM, give more with -m`;
        throw new VmmError("ERR_MEMORY_LAYOUT", message);
      }
      const rest = Math.min(bytes.length - done, region.gpa + region.bytes - at);
      const count = Math.min(rest, VIEW_BYTES_MAX);
      const hva = this.address + region.offset + (at - region.gpa);
      new Uint8Array(viewOf(hva, count)).set(bytes.subarray(done, done + count));
      done += count;
    }
  }

  close(): void {
    this.#mapping.close();
  }
}
