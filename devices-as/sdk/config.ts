// The config space: what a driver reads of a device besides its requests, and may write if the
// device lets it (virtio v1.2 §2.5). It is declared once, at the top level of a device's source:
//
//   @unmanaged
//   class ConsoleConfig {
//     cols: u16;
//     rows: u16 = 25;
//   }
//   const config = configSpace<ConsoleConfig>();
//
// From then on a device reads and assigns the fields, and the driver is told of what it changes.

import { attention } from "./attention";

/** Bytes of the largest config space; as many follow each of these addresses. */
const BYTES_MAX: u32 = 256;

const SPACE: usize = memory.data(256, 8);
/** What the runtime was told last. */
const TOLD: usize = memory.data(256, 8);
/** Bytes that the driver wrote since it reset the device: 1 for each, and what was there before. */
const WRITTEN: usize = memory.data(256);
const BEFORE: usize = memory.data(256);

/** Bytes of this device's config space. */
export let configSize: u32 = 0;

/**
 * Makes the fields of `T` the config space, with their initial values. They are laid out as in C,
 * which is as the specification has them. A space that goes on behind them has `bytes` bytes; see
 * configBytes().
 */
export function configSpace<T>(bytes: u32 = offsetof<T>()): T {
  if (!isReference<T>() || isManaged<T>()) ERROR("A config space is made of an @unmanaged class");
  assert(configSize == 0, "a device has one config space");
  assert(bytes >= offsetof<T>(), "a config space smaller than its fields");
  assert(bytes > 0 && bytes <= BYTES_MAX, "a config space of no bytes, or too many");
  memory.copy(SPACE, changetype<usize>(instantiate<T>()), offsetof<T>());
  configSize = bytes;
  attention.config = SPACE;
  return changetype<T>(SPACE);
}

/**
 * The `length` bytes from `offset` of the config space, for what no field can be: an array, or a
 * union. Call it at the top level, after configSpace().
 */
export function configBytes(offset: u32, length: u32): ConfigBytes {
  assert(length <= configSize && offset <= configSize - length, "bytes beyond the config space");
  return new ConfigBytes(SPACE + offset, length);
}

/** Bytes of the config space; a device that goes beyond them traps. */
@final
export class ConfigBytes {
  constructor(
    private readonly at: usize,
    public readonly length: u32,
  ) {}

  @operator("[]")
  get(index: u32): u8 {
    return load<u8>(this.place(index, 1));
  }

  @operator("[]=")
  set(index: u32, value: u8): void {
    store<u8>(this.place(index, 1), value);
  }

  /** One little-endian number at `offset`: `bytes.read<u32>(4)`. */
  read<T extends number>(offset: u32): T {
    return load<T>(this.place(offset, sizeof<T>()));
  }

  /** Puts one little-endian number at `offset`: `bytes.write<u32>(4, 100)`. */
  write<T extends number>(offset: u32, value: T): void {
    store<T>(this.place(offset, sizeof<T>()), value);
  }

  /** Makes every byte `value`. */
  fill(value: u8): void {
    memory.fill(this.at, value, this.length);
  }

  /** Puts `text` in front, as UTF-8 and without an end, and returns how many bytes that are. */
  writeText(text: string): u32 {
    const bytes = <u32>String.UTF8.byteLength(text);
    String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, this.place(0, bytes));
    return bytes;
  }

  private place(offset: u32, bytes: u32): usize {
    assert(bytes <= this.length && offset <= this.length - bytes, "beyond the config bytes");
    return this.at + offset;
  }
}

function put(at: usize, bytes: u32, value: u32): void {
  for (let i: u32 = 0; i < bytes; i++) store<u8>(at + i, <u8>(value >> (8 * i)));
}

/** Puts what the driver wrote into the space, and returns what was there. */
export function writeConfig(offset: u32, bytes: u32, value: u32): u32 {
  assert(bytes <= 4 && bytes <= configSize && offset <= configSize - bytes, "outside of the space");
  let before: u32 = 0;
  for (let i: u32 = 0; i < bytes; i++) before |= (<u32>load<u8>(SPACE + offset + i)) << (8 * i);
  put(SPACE + offset, bytes, value);
  return before;
}

/** The device does not let the driver write that: everything is as it was. */
export function refuseConfig(offset: u32, bytes: u32, before: u32): void {
  put(SPACE + offset, bytes, before);
}

/** The device takes what the driver wrote; a reset gives `before` back. */
export function keepConfig(offset: u32, bytes: u32, before: u32): void {
  for (let i: u32 = 0; i < bytes; i++) {
    if (load<u8>(WRITTEN + offset + i) != 0) continue;
    store<u8>(WRITTEN + offset + i, 1);
    store<u8>(BEFORE + offset + i, <u8>(before >> (8 * i)));
  }
}

/** The driver reset the device: what it wrote is void, as it is for a device started again. */
export function resetConfig(): void {
  for (let i: u32 = 0; i < configSize; i++) {
    if (load<u8>(WRITTEN + i) != 0) store<u8>(SPACE + i, load<u8>(BEFORE + i));
    store<u8>(WRITTEN + i, 0);
  }
}

/** Lets the runtime know when the space is not what it was; after each call of the device. */
export function publishConfig(): void {
  if (configSize == 0 || memory.compare(SPACE, TOLD, configSize) == 0) return;
  memory.copy(TOLD, SPACE, configSize);
  attention.configGeneration++;
}
