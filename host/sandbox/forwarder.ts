// Calls from JavaScript into Wasm that never make V8 write machine code. For each function that a
// module exports V8 counts the calls that go through a generic wrapper, and at the 1000th it
// compiles a special one: in a confined process that is death. It could compile them all at the
// start, but into the heap, where the next full garbage collection writes to their page: death as
// well. So JavaScript calls a tiny module that only forwards to the device's functions (Wasm to
// Wasm needs no wrapper), and a new instance of that module, with new counters, takes over in time.
// An instance costs 4 µs.

import { VmmError } from "../errors.js";

/**
 * Calls of all functions of one instance together: V8's budget for one is 1000
 * (kGenericWrapperBudget).
 */
const CALLS_MAX = 900;

const VALUE_TYPES = { i32: 0x7f, i64: 0x7e } as const;
export type ValueType = keyof typeof VALUE_TYPES;

export interface Signature {
  parameters: readonly ValueType[];
  results: readonly ValueType[];
}

/** Section ids and opcodes (WebAssembly core specification 1.0 §5.5, §5.4). */
const SECTION = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const;
const FUNCTION_TYPE = 0x60;
const FUNCTION = 0x00;
const LOCAL_GET = 0x20;
const CALL = 0x10;
const END = 0x0b;
const PREAMBLE = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const TARGET = "device";

function leb128(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb128(value >>> 7)];
}

function vector(elements: readonly (readonly number[])[]): number[] {
  return [...leb128(elements.length), ...elements.flat()];
}

function sized(bytes: readonly number[]): number[] {
  return [...leb128(bytes.length), ...bytes];
}

function name(text: string): number[] {
  return sized([...new TextEncoder().encode(text)]);
}

function typeOf({ parameters, results }: Signature): number[] {
  const types = (all: readonly ValueType[]) => vector(all.map((type) => [VALUE_TYPES[type]]));
  return [FUNCTION_TYPE, ...types(parameters), ...types(results)];
}

/** The forwarding module: imports every function from "device" and exports one that calls it. */
function moduleOf(signatures: readonly (readonly [string, Signature])[]): Uint8Array<ArrayBuffer> {
  const count = signatures.length;
  const each = (make: (of: readonly [string, Signature], index: number) => number[]) =>
    vector(signatures.map(make));
  const bodyOf = ({ parameters }: Signature, index: number) => {
    const arguments_ = parameters.flatMap((_, i) => [LOCAL_GET, ...leb128(i)]);
    return sized([0, ...arguments_, CALL, ...leb128(index), END]);
  };
  const sections: [number, number[]][] = [
    [SECTION.type, each(([, signature]) => typeOf(signature))],
    [SECTION.import, each(([of], i) => [...name(TARGET), ...name(of), FUNCTION, ...leb128(i)])],
    [SECTION.function, each((_, i) => leb128(i))],
    [SECTION.export, each(([of], i) => [...name(of), FUNCTION, ...leb128(count + i)])],
    [SECTION.code, each(([, signature], i) => bodyOf(signature, i))],
  ];
  return new Uint8Array([...PREAMBLE, ...sections.flatMap(([id, body]) => [id, ...sized(body)])]);
}

/** Forwards to the functions of one Wasm instance. Create it before the lock-down: it compiles. */
export class Forwarder<Functions> {
  readonly #module: WebAssembly.Module;
  readonly #target: WebAssembly.Imports[string];
  #functions: Functions;
  #callsLeft = CALLS_MAX;

  /**
   * @param target exports of the instance
   * @param signatures the functions to forward to, with their exact types
   * @throws VmmError ERR_MODULE if one is missing or has another type
   */
  constructor(target: WebAssembly.Exports, signatures: Readonly<Record<string, Signature>>) {
    this.#target = target as WebAssembly.Imports[string];
    this.#module = new WebAssembly.Module(moduleOf(Object.entries(signatures)));
    this.#functions = this.#renew();
  }

  /** The functions, for one call: look them up here each time. */
  get call(): Functions {
    if (this.#callsLeft === 0) this.#functions = this.#renew();
    this.#callsLeft--;
    return this.#functions;
  }

  #renew(): Functions {
    this.#callsLeft = CALLS_MAX;
    try {
      const { exports } = new WebAssembly.Instance(this.#module, { [TARGET]: this.#target });
      return exports as Functions;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new VmmError("ERR_MODULE", `Cannot use this module: ${reason}`, { cause });
    }
  }
}
