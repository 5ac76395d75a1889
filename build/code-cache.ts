// What V8 makes of a script, all functions of it, written to a file: `node FLAGS code-cache.js
// BASE` reads BASE.script and writes BASE.cache. V8 takes it only with the version and the flags
// with which it was made, and otherwise compiles the script as if there were none.

import fs from "node:fs";
import v8 from "node:v8";
import { Script } from "node:vm";

const base = process.argv[2] ?? "";

// Not on the command line: with the flag the code would be good only for a node that has it.
v8.setFlagsFromString("--no-lazy");
const script = new Script(fs.readFileSync(`${base}.script`, "latin1"), {
  filename: `${base}.script`,
});
v8.setFlagsFromString("--lazy");
fs.writeFileSync(`${base}.cache`, script.createCachedData());
