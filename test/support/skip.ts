// What a test tells the runner besides passing and failing: lines on stdout that start with a word.
// The line break comes first because uvu prints its dots without one.

/**
 * Says that something was not tested here, and why; the runner counts it and lists it at the end.
 *
 * @param reason what is missing and, if it can be had, the command that gets it
 */
export function skip(reason: string): void {
  process.stdout.write(`\nSKIP ${reason.replaceAll("\n", " ")}\n`);
}

/** Shows `text` in the test log although the test passes: a measurement, a guest's own words. */
export function note(text: string): void {
  const lines = text.trimEnd().split(/\r?\n/);
  process.stdout.write(`\n${lines.map((line) => `NOTE ${line}`).join("\n")}\n`);
}
