// The WebAssembly that is compiled from assembly/. A bundled program has it inside
// (build/bundle.ts).

import { readFileSync } from "node:fs";

/** The bytes of the module that NAME.ts becomes. */
export function wasmCode(name: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(new URL(`./assembly/${name}.wasm`, import.meta.url)));
}
