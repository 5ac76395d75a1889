// What a device that breaks says before it ends: the reason, and, of a module with names (a debug
// build), the functions that the trap went through, innermost first:
//
//   serve: unreachable, in mine/Mine#serve[12]+0x1a3 from sdk/entry/serve[20]+0x255
//
// In brackets is the function's index, behind it the offset in the module's bytes. The VMM turns
// that into places in the author's source (source-map.ts).

/** All of them fit into one line of the log, with the reason. */
const FRAMES_MAX = 8;
const NAME_CHARACTERS_MAX = 64;

/** V8's line of a Wasm function that has a name. */
const NAME = `(.{1,${NAME_CHARACTERS_MAX}}).*?`;
const PLACE = "\\(wasm:[^:]*:wasm-function\\[(\\d+)\\]:(0x[0-9a-f]+)\\)";
const WASM_FRAME = new RegExp(`^ +at ${NAME} ${PLACE}$`, "gm");

/** Functions of the compiler's own, which no source has: they call what is overridden. */
const STUB = /@(override|varargs)$/;

/** What would be taken for the end of a name. */
const DELIMITERS = /[^!-~]|[[\]]/g;

function framesOf(stack: string): string[] {
  return [...stack.matchAll(WASM_FRAME)]
    .filter(([, name = ""]) => !STUB.test(name))
    .slice(0, FRAMES_MAX)
    .map(([, name = "", index, offset]) => `${name.replace(DELIMITERS, "?")}[${index}]+${offset}`);
}

/** The line for the log of what ended a device. */
export function lastWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const stack = error.cause instanceof Error ? String(error.cause.stack) : "";
  const frames = framesOf(stack);
  return frames.length === 0 ? error.message : `${error.message}, in ${frames.join(" from ")}`;
}
