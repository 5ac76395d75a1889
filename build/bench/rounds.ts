// Rounds in which everybody has a turn, so that all see the same noise of a shared machine.

import tty from "node:tty";
import { STDERR, say } from "../../host/cli/output.js";
import { median } from "./processes.js";

/** A ratio of two medians of fewer runs says little where single runs vary by a third. */
export const ROUNDS = 5;

const isTerminal = tty.isatty(STDERR);

/** Says on a terminal what is being done, in one line that the next one replaces; else nothing. */
export function progress(text: string): void {
  if (isTerminal) say(STDERR, `\r\x1b[K${text}`);
}

/** Numbers that one run gives, by name. */
export type Measured = Readonly<Record<string, number>>;

/** One who has a turn in every round; undefined has none, because it is not there. */
export type Turn = (() => Promise<Measured>) | undefined;

function mediansOf(runs: readonly Measured[]): Measured {
  const names = Object.keys(runs[0]!);
  return Object.fromEntries(names.map((name) => [name, median(runs.map((run) => run[name]!))]));
}

/**
 * Gives each of `turns` one turn in each of `count` rounds, in alternating order, so that nobody is
 * always the one who comes after another; returns the medians of each.
 *
 * @param what is measured, for who waits
 */
export async function rounds(
  what: string,
  turns: readonly Turn[],
  count = ROUNDS,
): Promise<(Measured | undefined)[]> {
  const values: Measured[][] = turns.map(() => []);
  for (let round = 1; round <= count; round++) {
    progress(`${what}, round ${round} of ${count}`);
    const order = [...turns.entries()];
    for (const [index, turn] of round % 2 === 1 ? order : order.reverse()) {
      if (turn !== undefined) values[index]!.push(await turn());
    }
  }
  return values.map((runs) => (runs.length === 0 ? undefined : mediansOf(runs)));
}
