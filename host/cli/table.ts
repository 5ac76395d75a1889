// Tables for a reader, as wide as they need to be.

import { paint, printable, STDOUT } from "./output.js";

const NO_LINES = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
};

const PLAIN = { head: [], border: [], "padding-left": 0, "padding-right": 0 };

/** Loads what table() needs, for a process that may open no file later. */
export async function loadTables(): Promise<void> {
  await table([], []);
}

/** Lines of `rows` below `head`, in columns; ends with a newline. */
export async function table(head: string[], rows: string[][]): Promise<string> {
  // Not at the top: in the bundle that would be loaded for `run` too, before the guest can start.
  const { default: Table } = await import("cli-table3");
  const lines = new Table({
    head: head.map((title) => paint(STDOUT, "bold", title)),
    chars: NO_LINES,
    style: PLAIN,
  });
  for (const row of rows) lines.push(row.map(printable));
  return `${lines.toString().replace(/ +$/gm, "")}\n`;
}
