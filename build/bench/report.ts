// What a run found out: a file with all numbers, and what README and a terminal show of them.

import { digits, isMet, type Row, ratioOf, targetText } from "./rows.js";

export interface SectionResult {
  name: string;
  title: string;
  peer: string;
  /** ISO date and time, UTC. */
  date: string;
  /** Load average of the minute before, which others on the machine made. */
  load: number;
  rows: Row[];
}

export interface Results {
  /** What it was measured on: words for a reader, by what they are about. */
  machine: Readonly<Record<string, string>>;
  sections: SectionResult[];
}

const BEGIN = "<!-- bench -->";
const END = "<!-- /bench -->";
export const CHART = "build/bench/chart.svg";

/** Four digits: more would only differ from run to run. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

/** The row as it is kept: rounded, and with the ratio of what is then there. */
export function finished({ name, unit, ours, theirs, target }: Row): Row {
  const row: Row = { name, unit, ours: rounded(ours) };
  // What was not measured may also be NaN, which JSON does not have.
  if (theirs !== undefined && !Number.isNaN(theirs)) row.theirs = rounded(theirs);
  const ratio = ratioOf(row);
  if (ratio !== undefined) row.ratio = rounded(ratio);
  if (target !== undefined) row.target = targetText(target);
  return row;
}

/**
 * `results` in place of those of the same sections in `before`, in the order of `names`. Another
 * machine's numbers are not kept beside these.
 */
export function merged(
  results: Results,
  before: Results | undefined,
  names: readonly string[],
): Results {
  const same = JSON.stringify(before?.machine) === JSON.stringify(results.machine);
  const known = new Map<string, SectionResult>();
  for (const section of [...(same ? before!.sections : []), ...results.sections]) {
    known.set(section.name, section);
  }
  const sections = names.flatMap((name) => known.get(name) ?? []);
  return { machine: results.machine, sections };
}

function withUnit(value: number | undefined, unit: string): string {
  return value === undefined ? "" : `${digits(value)} ${unit}`;
}

function ratioText(row: Row): string {
  const ratio = ratioOf(row);
  return ratio === undefined ? "" : `${ratio.toFixed(2)} ×`;
}

/** The target, and that it was missed where it was. */
function verdict(row: Row): string {
  return targetText(row.target) + (isMet(row) === false ? ", missed" : "");
}

/** Columns of a row: name, Bulkhead's, the peer's, ratio, target. */
export function columns(row: Row): string[] {
  const { name, unit, ours, theirs } = row;
  const numbers = [withUnit(ours, unit), withUnit(theirs, unit)];
  return [name, ...numbers, ratioText(row), verdict(row)];
}

/** The head of the columns, and a section's own line below it. */
export const HEAD = ["", "Bulkhead", "the other", "ratio", "target"];

function cells(words: readonly string[]): string {
  return `| ${words.join(" | ")} |`.replace(/ {2,}/g, " ");
}

/** A table of all sections. */
export function markdownTable({ sections }: Results): string {
  const lines = [cells(HEAD), "|---|--:|--:|--:|---|"];
  for (const { title, peer, rows } of sections) {
    lines.push(cells([`**${title}**`, "", peer && `*${peer}*`, "", ""]));
    for (const row of rows) lines.push(cells(columns(row)));
  }
  return lines.join("\n");
}

/** "2026-11-30", or "2026-11-29 to 2026-11-30" where sections were measured on several days. */
function days({ sections }: Results): string {
  const all = sections.map(({ date }) => date.slice(0, 10)).sort();
  return [...new Set([all[0], all.at(-1)])].join(" to ");
}

/** What stands between the markers of README. */
export function markdown(results: Results): string {
  const about = Object.entries(results.machine).map(([name, value]) => `${name} ${value}`);
  const loads = results.sections.map(({ load }) => load);
  const [least, most] = [Math.min(...loads).toFixed(1), Math.max(...loads).toFixed(1)];
  return [
    BEGIN,
    `\`npm run bench\` on ${days(results)}, side by side, medians of five rounds or more; what`,
    "each section takes says `npm run bench -- --help`.",
    `${about.join("; ")}; load that others made, before each section: ${least} to ${most}.`,
    "",
    `![Bulkhead's speed beside the other's, row by row](${CHART})`,
    "",
    markdownTable(results),
    END,
  ].join("\n");
}

/**
 * `readme` with the numbers of `results` between its markers.
 *
 * @throws Error if a marker is missing
 */
export function withNumbers(readme: string, results: Results): string {
  const [from, to] = [readme.indexOf(BEGIN), readme.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`README has no ${BEGIN} … ${END}`);
  return readme.slice(0, from) + markdown(results) + readme.slice(to + END.length);
}
