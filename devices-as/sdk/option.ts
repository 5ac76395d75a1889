// Options: what the user may set on the command line, `--device ./mine.wasm,rate=100,verbose`. They
// are declared at the top level of a device's source, and known from Device.start() on.

import { log } from "./log";

/** Options that one device may declare. */
const OPTIONS_MAX: u32 = 16;

/** Bytes of one text. */
const TEXT_BYTES_MAX: u32 = 256;

/** As in the description (describe.ts). */
const enum Type {
  Number = 1,
  Flag = 2,
  Text = 3,
}

/** An option and its value: its default until the user's is known. */
export abstract class Option {
  /** Takes what the user set. */
  @unsafe
  abstract set(number: u64, text: usize, bytes: u32): void;
}

/** `name=NUMBER`. */
@final
export class NumberOption extends Option {
  constructor(public value: u64) {
    super();
  }

  @unsafe
  set(number: u64, text: usize, bytes: u32): void {
    this.value = number;
  }
}

/** `name`: set or not. */
@final
export class FlagOption extends Option {
  value: bool = false;

  @unsafe
  set(number: u64, text: usize, bytes: u32): void {
    this.value = true;
  }
}

/** `name=TEXT`: UTF-8, empty when the user says nothing. */
@final
export class TextOption extends Option {
  /** The text's bytes, `length` of them. */
  readonly bytes: StaticArray<u8> = new StaticArray<u8>(TEXT_BYTES_MAX);
  length: u32 = 0;

  /** The text as a string, which is allocated: ask in Device.start(). */
  toString(): string {
    return String.UTF8.decodeUnsafe(changetype<usize>(this.bytes), this.length);
  }

  @unsafe
  set(number: u64, text: usize, bytes: u32): void {
    assert(bytes <= TEXT_BYTES_MAX, "a text longer than the contract has");
    memory.copy(changetype<usize>(this.bytes), text, bytes);
    this.length = bytes;
  }
}

/** One declaration, as describe.ts lays it out: name │ type. */
@unmanaged
class Declaration {
  name: usize = 0;
  type: u32 = 0;
}

/** The declarations, one after the other, in static memory. */
export const optionDeclarations: usize = memory.data(16 * offsetof<Declaration>());
export let optionCount: u32 = 0;

const options = new StaticArray<Option | null>(OPTIONS_MAX);

function declare_(name: string, type: Type, option: Option): void {
  assert(optionCount < OPTIONS_MAX, "too many options");
  const at = changetype<Declaration>(optionDeclarations + optionCount * offsetof<Declaration>());
  at.name = changetype<usize>(name);
  at.type = type;
  options[optionCount++] = option;
}

/** The `index`-th option takes what the user set. */
export function setOption(index: u32, number: u64, text: usize, bytes: u32): void {
  options[index]!.set(number, text, bytes);
}

/** Declarations of options; call them at the top level of a device's source. */
export namespace option {
  /** `name=NUMBER`; `fallback` when the user does not say. */
  export function number(name: string, fallback: u64 = 0): NumberOption {
    const made = new NumberOption(fallback);
    declare_(name, Type.Number, made);
    return made;
  }

  /** The word `name` alone. */
  export function flag(name: string): FlagOption {
    const made = new FlagOption();
    declare_(name, Type.Flag, made);
    return made;
  }

  /** `name=TEXT`, at most 256 bytes of UTF-8. */
  export function text(name: string): TextOption {
    const made = new TextOption();
    declare_(name, Type.Text, made);
    return made;
  }
}

/**
 * What the user set must make sense: where it does not, the log says why, in a release build as
 * well, and the VM does not start. For Device.start(), where the options are known.
 */
export function demand(isRight: bool, why: string): void {
  if (isRight) return;
  log(why);
  unreachable();
}
