// In what V8 differs from that of Node 20 (11.3), where a device's confinement depends on it. Node
// takes no flag that its V8 does not know.

const MAJOR = Number.parseInt(process.versions.v8, 10);

/**
 * V8 counts the calls between JavaScript and Wasm, and at the 1000th it compiles a special wrapper:
 * never, here. Before V8 12 it did so for exported functions only, and no flag said otherwise
 * (forwarder.ts).
 */
export const WRAPPER_FLAGS: readonly string[] =
  MAJOR >= 12 ? ["--wasm-wrapper-tiering-budget=2147483647"] : [];
