// Rows of the table of verbs → what --help says: a screen of 24 lines and 80 columns at most. The
// rest is in the reference (reference.ts).

import type { OptionRow, Verb } from "./verb.js";

/** Columns of a line. */
export const HELP_COLUMNS = 80;
export const HELP_LINES = 24;

const HELP_ROW: OptionRow = { flags: "-h, --help", summary: "show this" };

/** An option as it is written, with its long form below other long forms. */
function formOf({ flags }: OptionRow): string {
  return flags.startsWith("--") ? `    ${flags}` : flags;
}

/** Names and what they mean, in two columns. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, summary]) => `  ${name.padEnd(width)}  ${summary}`.trimEnd());
}

/** What --help and the reference say of an option, with its default. */
export function summaryOf({ summary, fallback }: OptionRow): string {
  return fallback === undefined ? summary : `${summary} (default: ${fallback})`;
}

/** `bulkhead run [options] [KERNEL]` */
export function usageOf({ name, argument }: Verb): string {
  return ["bulkhead", name, "[options]", argument?.form ?? ""].join(" ").trimEnd();
}

/** What `bulkhead VERB --help` prints. */
export function helpOf(verb: Verb): string {
  const { name, description, argument, options, examples } = verb;
  const shown = options.filter(({ rare, missing }) => rare !== true && missing === undefined);
  const rows = [...shown, HELP_ROW].map((row) => [formOf(row), summaryOf(row)] as const);
  const named = argument === undefined ? [] : [[argument.form, argument.summary] as const];
  return [
    `Usage: ${usageOf(verb)}`,
    description,
    "",
    ...columns([...named, ...rows]),
    "",
    `Example: bulkhead ${examples[0].line}`,
    `More: bulkhead man ${name}`,
    "",
  ].join("\n");
}

/** What `bulkhead --help` prints. */
export function mainHelp(verbs: readonly Verb[]): string {
  return [
    "Usage: bulkhead VERB [options]",
    "A virtual machine monitor whose devices are confined, one process each.",
    "",
    ...columns(verbs.map(({ name, summary }) => [name, summary] as const)),
    "",
    "Example: bulkhead run -k vmlinuz -i initrd.img -d disk.img -p root=/dev/vda1",
    "More: bulkhead VERB --help, bulkhead man, bulkhead --version",
    "",
  ].join("\n");
}
