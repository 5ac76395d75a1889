// An assembler for as much of ACPI Machine Language as a machine without methods needs: names,
// packages, devices and resource templates. Each function returns the encoded term, so that a DSDT
// reads much as its ASL source would (ACPI 6.3 §20.2 for terms, §6.4 for resources).

import { assert } from "../errors.js";

/** An encoded term or resource descriptor. */
export type Aml = Uint8Array;

const ZERO_OP = 0x00;
const ONE_OP = 0x01;
const NAME_OP = 0x08;
const BYTE_PREFIX = 0x0a;
const WORD_PREFIX = 0x0b;
const DWORD_PREFIX = 0x0c;
const STRING_PREFIX = 0x0d;
const SCOPE_OP = 0x10;
const BUFFER_OP = 0x11;
const PACKAGE_OP = 0x12;
const EXT_OP_PREFIX = 0x5b;
const DEVICE_OP = 0x82;

/** General flags of an address space: its minimum and its maximum are fixed (§6.4.3.5.1). */
const FIXED = 0x0c;

/** Terms one after the other. */
export function concat(...terms: Aml[]): Aml {
  const whole = new Uint8Array(terms.reduce((sum, term) => sum + term.length, 0));
  let offset = 0;
  for (const term of terms) {
    whole.set(term, offset);
    offset += term.length;
  }
  return whole;
}

function bytesOf(...values: number[]): Aml {
  return Uint8Array.from(values);
}

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff];
}

function dword(value: number): number[] {
  return [...word(value), ...word(value >>> 16)];
}

function ascii(text: string): Aml {
  const codes = Uint8Array.from(text, (char) => char.charCodeAt(0));
  assert(
    codes.every((code) => code > 0 && code < 0x80),
    `"${text}" is not ASCII`,
  );
  return codes;
}

/** PkgLength (§20.2.4): counts itself, in as few of its four forms' bytes as it can. */
function packageLength(contentBytes: number): Aml {
  if (contentBytes + 1 < 1 << 6) return bytesOf(contentBytes + 1);
  const extra = contentBytes + 2 < 1 << 12 ? 1 : contentBytes + 3 < 1 << 20 ? 2 : 3;
  const length = contentBytes + 1 + extra;
  assert(length < 1 << 28, `${contentBytes} bytes in one AML package`);
  const tail = Array.from({ length: extra }, (_, i) => (length >>> (4 + 8 * i)) & 0xff);
  return bytesOf((extra << 6) | (length & 0xf), ...tail);
}

function packaged(opcode: number[], ...content: Aml[]): Aml {
  const body = concat(...content);
  return concat(bytesOf(...opcode), packageLength(body.length), body);
}

/** NameSeg (§20.2.2): up to four characters, padded with underscores. */
function nameSegment(segment: string): Aml {
  assert(/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment), `"${segment}" is not an ACPI name`);
  return ascii(segment.padEnd(4, "_"));
}

/** A constant of up to 32 bits, in the shortest encoding. */
export function integer(value: number): Aml {
  assert(Number.isInteger(value) && value >= 0 && value <= 0xffffffff, `AML integer ${value}`);
  if (value === 0) return bytesOf(ZERO_OP);
  if (value === 1) return bytesOf(ONE_OP);
  if (value <= 0xff) return bytesOf(BYTE_PREFIX, value);
  if (value <= 0xffff) return bytesOf(WORD_PREFIX, ...word(value));
  return bytesOf(DWORD_PREFIX, ...dword(value));
}

/** A string constant. */
export function string(text: string): Aml {
  return concat(bytesOf(STRING_PREFIX), ascii(text), bytesOf(0));
}

/** `EISAID("PNP0501")`: three letters in five bits each and four digits, big-endian (§19.6.36). */
export function eisaId(id: string): Aml {
  assert(/^[A-Z]{3}[0-9A-F]{4}$/.test(id), `"${id}" is not an EISA id`);
  const letter = (i: number) => id.charCodeAt(i) - 0x40;
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2);
  const product = Number.parseInt(id.slice(3), 16);
  const bigEndian = [vendor >>> 8, vendor & 0xff, product >>> 8, product & 0xff];
  return bytesOf(DWORD_PREFIX, ...bigEndian);
}

/** `Package () { … }` */
export function packageOf(...elements: Aml[]): Aml {
  return packaged([PACKAGE_OP], bytesOf(elements.length), ...elements);
}

/** `Name (segment, object)` */
export function name(segment: string, object: Aml): Aml {
  return concat(bytesOf(NAME_OP), nameSegment(segment), object);
}

/** `Scope (segment) { … }` */
export function scope(segment: string, ...terms: Aml[]): Aml {
  return packaged([SCOPE_OP], nameSegment(segment), ...terms);
}

/** `Device (segment) { … }` */
export function device(segment: string, ...terms: Aml[]): Aml {
  return packaged([EXT_OP_PREFIX, DEVICE_OP], nameSegment(segment), ...terms);
}

/** `ResourceTemplate () { … }`: a buffer of descriptors and an end tag without a checksum. */
export function resourceTemplate(...descriptors: Aml[]): Aml {
  const END_TAG = bytesOf(0x79, 0);
  const body = concat(...descriptors, END_TAG);
  return packaged([BUFFER_OP], integer(body.length), body);
}

/** `IO (Decode16, port, port, 1, count)` (§6.4.2.5). */
export function io(port: number, count: number): Aml {
  const DECODE_16 = 1;
  return bytesOf(0x47, DECODE_16, ...word(port), ...word(port), 1, count);
}

/** `IRQNoFlags () { irq }`: edge, active high, exclusive; ISA interrupts only (§6.4.2.1). */
export function irqNoFlags(irq: number): Aml {
  assert(irq < 16, `ISA interrupt ${irq}`);
  return bytesOf(0x22, ...word(1 << irq));
}

/** `Memory32Fixed (ReadWrite, base, bytes)` (§6.4.3.4). */
export function memory32Fixed(base: number, bytes: number): Aml {
  assert(base + bytes <= 2 ** 32, `a 32-bit window at ${base}`);
  const READ_WRITE = 1;
  return bytesOf(0x86, ...word(9), READ_WRITE, ...dword(base), ...dword(bytes));
}

/** `WordBusNumber (…)` of a producer: buses 0 to `count` - 1 (§6.4.3.5.3). */
export function busNumbers(count: number): Aml {
  const BUS_NUMBER_RANGE = 2;
  return bytesOf(
    0x88,
    ...word(13),
    BUS_NUMBER_RANGE,
    FIXED,
    0,
    ...[0, 0, count - 1, 0, count].flatMap(word),
  );
}

/** `DWordMemory (…)` of a producer: not cacheable, read and write (§6.4.3.5.2). */
export function memoryWindow(base: number, bytes: number): Aml {
  const MEMORY_RANGE = 0;
  const READ_WRITE = 1;
  const numbers = [0, base, base + bytes - 1, 0, bytes].flatMap(dword);
  return bytesOf(0x87, ...word(23), MEMORY_RANGE, FIXED, READ_WRITE, ...numbers);
}

/** `Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive | Shared) { gsi }` (§6.4.3.6). */
export function interrupt(gsi: number, { isShared = false } = {}): Aml {
  const CONSUMER = 1 << 0;
  const EDGE = 1 << 1;
  const SHARED = isShared ? 1 << 3 : 0;
  return bytesOf(0x89, ...word(6), CONSUMER | EDGE | SHARED, 1, ...dword(gsi));
}
