// The ratios as an SVG chart that reads well on light and on dark pages: one bar a row, to the
// right of the middle where Bulkhead is faster, in octaves, with the target as a mark.

import type { Results } from "./report.js";
import { digits, isMet, parseTarget, type Row, ratioOf } from "./rows.js";

const WIDTH = 880;
const LABELS = 350; // where the bars' field begins
const FIELD = 330;
const ROW = 22;
const SECTION = 34;
const HEADER = 66;
const FOOTER = 14;
const MARGIN = 16;
const BAR = 10;
/** To each side; a bar that goes further ends there, or those near 1 could not be told apart. */
const OCTAVES_MAX = 4;

const STYLE = `
  .card { fill: #ffffff; stroke: #d1d9e0 }
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .head { font-weight: 600 }
  .quiet { fill: #59636e }
  .grid { stroke: #d1d9e0 }
  .even { stroke: #59636e }
  .met { fill: #1a7f37 }
  .missed { fill: #bc4c00 }
  .free { fill: #6e7781 }
  .target { stroke: #1f2328; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .even { stroke: #9198a1 }
    .met { fill: #3fb950 }
    .missed { fill: #db6d28 }
    .free { fill: #8b949e }
    .target { stroke: #f0f6fc }
  }
`;

function isMoreBetter({ target, unit }: Row): boolean {
  return parseTarget(target)?.more ?? /\/s$/.test(unit);
}

/** How many times as fast as the other: 1 is the same, and more is better whatever the unit. */
function speedOf(row: Row): number | undefined {
  const ratio = ratioOf(row);
  if (ratio === undefined || ratio <= 0) return undefined;
  return isMoreBetter(row) ? ratio : 1 / ratio;
}

/** The target as a speed; undefined where it is not about the ratio. */
function speedWanted({ target }: Row): number | undefined {
  const parsed = parseTarget(target);
  if (parsed === undefined || !parsed.relative) return undefined;
  return parsed.more ? parsed.bound : 1 / parsed.bound;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function text(x: number, y: number, words: string, attributes = ""): string {
  return `<text x="${x}" y="${y}"${attributes}>${escaped(words)}</text>`;
}

function line(x: number, from: number, to: number, name: string): string {
  return `<line class="${name}" x1="${x}" x2="${x}" y1="${from}" y2="${to}"/>`;
}

/** Where a speed is in the field, which spans `octaves` to each side of "the same". */
function place(speed: number, octaves: number): number {
  const share = Math.max(-1, Math.min(1, Math.log2(speed) / octaves));
  return Math.round(LABELS + FIELD / 2 + (share * FIELD) / 2);
}

function bar(row: Row, y: number, octaves: number): string {
  const [speed, wanted] = [speedOf(row)!, speedWanted(row)];
  const [middle, end] = [place(1, octaves), place(speed, octaves)];
  const kind = { true: "met", false: "missed", undefined: "free" }[String(isMet(row))];
  const left = Math.min(middle, end);
  const width = Math.max(1, Math.abs(end - middle));
  const top = y + (ROW - BAR) / 2;
  const parts = [
    text(MARGIN + 8, y + 15, row.name),
    `<rect class="${kind}" x="${left}" y="${top}" width="${width}" height="${BAR}" rx="2"/>`,
    text(
      WIDTH - MARGIN,
      y + 15,
      `${digits(row.ours)} : ${digits(row.theirs)} ${row.unit}`,
      ' class="quiet" text-anchor="end"',
    ),
  ];
  if (wanted !== undefined) {
    parts.push(line(place(wanted, octaves), top - 3, top + BAR + 3, "target"));
  }
  return parts.join("\n");
}

/** "1/4", "1 ×" or "4". */
function octaveName(octave: number): string {
  if (octave === 0) return "1 ×";
  return octave < 0 ? `1/${2 ** -octave}` : `${2 ** octave}`;
}

function octavesTo(octaves: number): number[] {
  return Array.from({ length: 2 * octaves + 1 }, (_, index) => index - octaves);
}

/** The lines behind the bars of one section. */
function grid(octaves: number, from: number, to: number): string[] {
  return octavesTo(octaves).map((octave) => {
    return line(place(2 ** octave, octaves), from, to, octave === 0 ? "even" : "grid");
  });
}

function scale(octaves: number): string[] {
  return octavesTo(octaves).map((octave) => {
    const x = place(2 ** octave, octaves);
    return text(x, HEADER - 6, octaveName(octave), ' class="quiet" text-anchor="middle"');
  });
}

/** The rows of all sections that have a ratio, as an SVG image. */
export function chart({ sections }: Results): string {
  const groups = sections
    .map(({ title, peer, rows }) => {
      return { head: `${title}: ${peer}`, rows: rows.filter((row) => speedOf(row) !== undefined) };
    })
    .filter(({ rows }) => rows.length > 0);
  const all = groups
    .flatMap(({ rows }) => rows)
    .flatMap((row) => [speedOf(row)!, speedWanted(row)]);
  const far = all.map((speed) => Math.abs(Math.log2(speed ?? 1)));
  const octaves = Math.min(OCTAVES_MAX, Math.max(2, Math.ceil(Math.max(...far))));
  const body: string[] = [];
  let y = HEADER;
  for (const { head, rows } of groups) {
    body.push(text(MARGIN, y + 24, head, ' class="head"'));
    y += SECTION;
    body.push(...grid(octaves, y, y + rows.length * ROW));
    for (const row of rows) {
      body.push(bar(row, y, octaves));
      y += ROW;
    }
  }
  const height = y + FOOTER;
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img">`,
    "<title>Bulkhead beside the other, row by row</title>",
    `<style>${STYLE}</style>`,
    `<rect class="card" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    text(
      MARGIN,
      26,
      "Bulkhead beside the other: the further to the right, the better",
      ' class="head"',
    ),
    text(MARGIN, 44, "times as fast, or as small; the mark is the target", ' class="quiet"'),
    text(WIDTH - MARGIN, HEADER - 6, "Bulkhead : other", ' class="quiet" text-anchor="end"'),
    ...scale(octaves),
    ...body,
    "</svg>",
    "",
  ].join("\n");
}
