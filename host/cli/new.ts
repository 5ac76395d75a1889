// bulkhead new: a folder with a device in it, to begin with.

import path from "node:path";
import { newDevice } from "../author/new.js";
import { EXIT } from "../errors.js";
import { now, STDOUT, say, sayJson } from "./output.js";

export interface NewOptions {
  json?: boolean;
}

/** Makes the folder `name` in the working directory. */
export async function create(name: string, { json }: NewOptions): Promise<number> {
  const { folder, files } = newDevice(name, ".");
  if (json === true) {
    sayJson({ event: "created", time: now(), folder: path.resolve(folder), files });
    return EXIT.ok;
  }
  say(STDOUT, `Made ${folder}/ with ${files.join(", ")}.\n\nNext:\n`);
  const next = [
    [`cd ${folder} && npm install`, "fetches what it depends on"],
    ["npm test", `builds ${name}.ts and drives it without a guest`],
    ["npm start", "boots a small guest that reads from it: needs /dev/kvm"],
  ];
  for (const [command, what] of next) say(STDOUT, `  ${command!.padEnd(28)} # ${what}\n`);
  return EXIT.ok;
}
