// Numbers for a reader: as few figures as tell two of them apart, and a unit.

function figures(value: number): string {
  return value.toFixed(value < 10 && !Number.isInteger(value) ? 1 : 0);
}

/** `value` in steps of `step` along `units`, the first of which is 1. */
function scaled(value: number, step: number, units: readonly string[]): string {
  let rest = value;
  let unit = 0;
  while (rest >= step && unit < units.length - 1) {
    rest /= step;
    unit += 1;
  }
  return `${figures(rest)}${units[unit]}`;
}

/** 12345 → "12k". */
export function count(value: number): string {
  return scaled(value, 1000, ["", "k", "M", "G", "T"]);
}

/** 12345 → "12K", in powers of 1024. */
export function bytes(value: number): string {
  return scaled(value, 1024, ["", "K", "M", "G", "T"]);
}

/** 12345 → "12ms"; undefined → "-". */
export function duration(us: number | undefined): string {
  if (us === undefined) return "-";
  if (us < 1_000_000) return scaled(us, 1000, ["us", "ms"]);
  return `${figures(us / 1_000_000)}s`;
}

/** How long ago `since` was, milliseconds since the epoch: "45s", "12m", "5h", "3d". */
export function uptime(since: number, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - since) / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** `1 CPU`, `2 CPUs`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
