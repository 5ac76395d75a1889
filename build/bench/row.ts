// What a benchmark says: one number that matters, in one row.

/** A measurement of ours and, where there is one, QEMU's in the same minutes. */
export interface Row {
  name: string;
  unit: string;
  ours: number;
  theirs?: number;
  /** ours / theirs. */
  ratio?: number;
}

export function rowOf(name: string, unit: string, values: (number | undefined)[]): Row {
  const [ours = Number.NaN, theirs] = values;
  if (theirs === undefined) return { name, unit, ours };
  return { name, unit, ours, theirs, ratio: ours / theirs };
}
