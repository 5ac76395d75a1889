// bulkhead completion: the table of verbs, kinds and grants → a script for a shell.

import { EXIT } from "../errors.js";
import { bashCompletion } from "./completion-bash.js";
import { zshCompletion } from "./completion-zsh.js";
import { STDOUT, say } from "./output.js";
import { oneOf } from "./usage.js";
import { VERBS } from "./verbs.js";

const SHELLS = { bash: bashCompletion, zsh: zshCompletion } as const;

/** Prints the script for `shell`. */
export async function completion(shell: string): Promise<number> {
  const known = oneOf("the shell", shell, Object.keys(SHELLS) as (keyof typeof SHELLS)[]);
  say(STDOUT, SHELLS[known](VERBS));
  return EXIT.ok;
}
