// One line of a benchmark's result, and what is made of it: the ratio, and whether that is enough.

/** A number that matters, and the same of the other monitor where it has one. */
export interface Row {
  name: string;
  unit: string;
  ours: number;
  theirs?: number | undefined;
  /** ours / theirs, as a reader would have it; the report computes it. */
  ratio?: number | undefined;
  /**
   * What was aimed at: of the ratio, as in "≥ 0.8 ×", or of our own number, as in "≤ 250". A number
   * is a ratio that a throughput is to reach.
   */
  target?: string | number | undefined;
}

/** A row of our number, and of theirs where there is one; the ratio follows from them. */
export function rowOf(name: string, unit: string, values: (number | undefined)[]): Row {
  const [ours = Number.NaN, theirs] = values;
  return theirs === undefined ? { name, unit, ours } : { name, unit, ours, theirs };
}

/** A target that can be computed with. */
export interface Target {
  /** Whether more is better. */
  more: boolean;
  bound: number;
  /** Whether it is about the ratio. */
  relative: boolean;
}

/** Row.target as a reader sees it. */
export function targetText(target: Row["target"]): string {
  return typeof target === "number" ? `≥ ${target} ×` : (target ?? "");
}

/** What `target` means; undefined where there is none, or it has another form. */
export function parseTarget(target: Row["target"]): Target | undefined {
  const match = /^([≥≤]) ([\d.]+)( ×)?$/.exec(targetText(target));
  if (match === null) return undefined;
  const [, sign, bound, times] = match;
  return { more: sign === "≥", bound: Number(bound), relative: times !== undefined };
}

export function ratioOf({ ours, theirs }: Row): number | undefined {
  // Of nothing, nothing can be said.
  if (theirs === undefined || theirs === 0 || ours === 0) return undefined;
  return ours / theirs;
}

/** Whether the row is as good as its target; undefined where it has none, or nothing to compare. */
export function isMet(row: Row): boolean | undefined {
  const target = parseTarget(row.target);
  const value = target?.relative ? ratioOf(row) : row.ours;
  if (target === undefined || value === undefined) return undefined;
  return target.more ? value >= target.bound : value <= target.bound;
}

/** Three digits, or all that are before the point. */
export function digits(value: number | undefined): string {
  if (value === undefined) return "";
  if (value >= 100) return value.toFixed(0).replace(/\B(?=(\d{3})+$)/g, "\u00a0");
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
