// bulkhead man: the reference, shown by man(1) where there is one and somebody to read it.

import { spawnSync } from "node:child_process";
import tty from "node:tty";
import { EXIT } from "../errors.js";
import { helpOf, mainHelp } from "./help.js";
import { STDOUT, say } from "./output.js";
import { version } from "./program.js";
import { asRoff, asText, reference, verbBlocks } from "./reference.js";
import { didYouMean, usageError } from "./usage.js";
import type { Verb } from "./verb.js";
import { VERBS } from "./verbs.js";

export interface ManOptions {
  roff?: boolean;
  text?: boolean;
}

function verbNamed(name: string): Verb {
  const verb = VERBS.find((each) => each.name === name);
  if (verb !== undefined) return verb;
  const known = VERBS.map((each) => each.name);
  throw usageError(`Cannot show "${name}": no such verb, ${didYouMean(name, known)}`);
}

function blocksOf(name: string | undefined) {
  return name === undefined ? reference(VERBS) : verbBlocks(verbNamed(name));
}

/** Has man(1) show `roff`; whether it did. */
function shown(roff: string): boolean {
  const { status } = spawnSync("man", ["-l", "-"], {
    input: roff,
    stdio: ["pipe", "inherit", "ignore"],
  });
  return status === 0;
}

/** Prints what --help does, of the verb `name` or of all. */
export async function help(name: string | undefined): Promise<number> {
  say(STDOUT, name === undefined ? mainHelp(VERBS) : helpOf(verbNamed(name)));
  return EXIT.ok;
}

/** Shows the reference, or the part of the verb `name`. */
export async function man(name: string | undefined, options: ManOptions): Promise<number> {
  const blocks = blocksOf(name);
  const roff = () => asRoff(blocks, version());
  const isTerminal = tty.isatty(STDOUT);
  if (options.roff === true || (options.text !== true && !isTerminal)) say(STDOUT, roff());
  else if (options.text === true || !shown(roff())) say(STDOUT, asText(blocks));
  return EXIT.ok;
}
