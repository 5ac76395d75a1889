// Sources of small devices, in folders that are gone when the test is.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";

const scratch = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-author-"));
test.after(() => fs.rmSync(scratch, { recursive: true }));

/** A device whose serve(), in line 5 from column 43 on, does `serve`; `top` is line 2. */
export function deviceSource(serve = "", top = ""): string {
  return `import { capability, Chain, Device, register, Rights } from "bulkhead/sdk";
${top}
class Test extends Device {
  constructor() { super(42, [8]); }
  serve(queue: u32, chain: Chain): void { ${serve} }
}
register(new Test());
`;
}

/** Writes `files`, by name, to a new folder; returns its path. */
export function folderOf(files: Record<string, string> = {}): string {
  const folder = fs.mkdtempSync(path.join(scratch, "folder-"));
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
  return folder;
}
