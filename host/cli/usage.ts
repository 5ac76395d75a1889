// Errors of the command line's own: what is wrong on the first line, what to do on the next.

import { VmmError } from "../errors.js";

/** An ERR_USAGE whose message reads "action: value, cause" and, on a second line, what to do. */
export function usageError(problem: string, whatToDo?: string): VmmError {
  return new VmmError("ERR_USAGE", whatToDo === undefined ? problem : `${problem}\n${whatToDo}`);
}

/** Edits that turn `from` into `to`: insert, remove, replace a character, swap two neighbours. */
function editDistance(from: string, to: string): number {
  let above: number[] = [];
  let row = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      const replaced = row[j]! + (from[i] === to[j] ? 0 : 1);
      const swaps = i > 0 && j > 0 && from[i] === to[j - 1] && from[i - 1] === to[j];
      const swapped = swaps ? above[j - 1]! + 1 : replaced;
      next.push(Math.min(row[j + 1]! + 1, next[j]! + 1, replaced, swapped));
    }
    above = row;
    row = next;
  }
  return row[to.length]!;
}

/** The known word that `word` was probably meant to be, if one is near enough. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const near = (other: string) => editDistance(word.slice(0, 64), other);
  const [best] = [...known].sort((a, b) => near(a) - near(b));
  return best !== undefined && near(best) <= Math.max(1, best.length / 3) ? best : undefined;
}

/** "did you mean X?" where a known word is near, else the list of what there is. */
export function didYouMean(word: string, known: readonly string[]): string {
  const best = nearest(word, known);
  if (best !== undefined) return `did you mean "${best}"?`;
  return known.length === 0 ? "there is none" : `known: ${known.join(", ")}`;
}

/** `value` if it is one of `choices`, else an ERR_USAGE that lists them and names the nearest. */
export function oneOf<T extends string>(option: string, value: string, choices: readonly T[]): T {
  const choice = choices.find((known) => known === value);
  if (choice !== undefined) return choice;
  const best = nearest(value, choices);
  const advice = best === undefined ? undefined : `did you mean "${best}"?`;
  throw usageError(`Cannot use ${option} "${value}": it is none of ${choices.join(", ")}`, advice);
}
