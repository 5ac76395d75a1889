// Calls from JavaScript into Wasm that never make V8 write machine code. For each function that a
// module exports V8 counts the calls that go through a generic wrapper, and at the 1000th it
// compiles a special one: in a confined process that is death. It could compile them all at the
// start, but into the heap, where the next full garbage collection writes to their page: death as
// well. So JavaScript calls a tiny module that only forwards to the device's functions (Wasm to
// Wasm needs no wrapper), and a new instance of that module, with new counters, takes over in time.
// An instance costs 4 µs.

import { VmmError } from "../errors.js";
import {
  assemble,
  FUNCTION,
  functionType,
  leb128,
  name,
  OP,
  SECTION,
  sized,
  type ValueType,
  vector,
} from "./wasm-writer.js";

export type { ValueType } from "./wasm-writer.js";

/**
 * Calls of all functions of one instance together: V8's budget for one is 1000
 * (kGenericWrapperBudget).
 */
const CALLS_MAX = 900;

export interface Signature {
  parameters: readonly ValueType[];
  results: readonly ValueType[];
}

const TARGET = "device";

function typeOf({ parameters, results }: Signature): number[] {
  return functionType(parameters, results);
}

/** The forwarding module: imports every function from "device" and exports one that calls it. */
function moduleOf(signatures: readonly (readonly [string, Signature])[]): Uint8Array<ArrayBuffer> {
  const count = signatures.length;
  const each = (make: (of: readonly [string, Signature], index: number) => number[]) =>
    vector(signatures.map(make));
  const bodyOf = ({ parameters }: Signature, index: number) => {
    const arguments_ = parameters.flatMap((_, i) => [OP.local_get, ...leb128(i)]);
    return sized([0, ...arguments_, OP.call, ...leb128(index), OP.end]);
  };
  const sections: [number, number[]][] = [
    [SECTION.type, each(([, signature]) => typeOf(signature))],
    [SECTION.import, each(([of], i) => [...name(TARGET), ...name(of), FUNCTION, ...leb128(i)])],
    [SECTION.function, each((_, i) => leb128(i))],
    [SECTION.export, each(([of], i) => [...name(of), FUNCTION, ...leb128(count + i)])],
    [SECTION.code, each(([, signature], i) => bodyOf(signature, i))],
  ];
  return assemble(sections);
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
