// The host's side of a guest that uses the examples (examples-init.sh): makes what their devices
// are granted, and runs bulkhead with them. A program of its own, because it runs wherever a job
// runs:
//
//   node examples-host.js KERNEL INITRD

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { withoutSigns } from "./tries.js";

const DIST = fileURLToPath(new URL("../..", import.meta.url));

/** A guest that oopses reboots at once, instead of staying there until its time is over. */
const PARAMETERS = "console=ttyS0 quiet oops=panic panic=-1";

/** An example with options, and what follows it: grants. */
function device(name: string, options: string[] = [], grants: string[] = []): string[] {
  const module = path.join(DIST, "devices", "examples", `${name}.wasm`);
  const granted = grants.flatMap((grant) => ["--grant", `${name}0.${grant}`]);
  return ["--device", [module, ...options].join(","), ...granted];
}

const BLOCK_BYTES = 4096;
const BLOCKS = 16;

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-examples-"));
const image = path.join(directory, "image");
const keys = path.join(directory, "keys");
fs.writeFileSync(image, "example\n".repeat((BLOCKS * BLOCK_BYTES) / 8));

const [, , kernel, initrd] = process.argv;
const devices = [
  device("ramdisk", ["size=2M"]),
  device("echo"),
  device("mixer", [], ["one=file:/dev/urandom:ro", "other=file:/dev/random:ro"]),
  device(
    "flaky",
    ["rate=300", "errors=read", "latency=2"],
    [`image=file:${image}:rw`, "time=clock:monotonic"],
  ),
  device("keyboard", [], [`typist=unix:${keys}:listen`]),
];
const bulkhead = spawn(
  process.execPath,
  [
    ...[path.join(DIST, "bundle", "cli", "main.js"), "run", "-k", kernel!, "-i", initrd!],
    ...["-m", "256M", "-c", "2", "-p", PARAMETERS, ...devices.flat()],
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);

/** Connects and types each of `texts` on a connection of its own, one after the other. */
function type([text, ...texts]: string[]): void {
  if (text === undefined) return;
  net
    .connect(keys)
    .on("close", () => type(texts))
    .resume()
    .end(text);
}

let output = "";
bulkhead.stdout.setEncoding("utf8").on("data", (text: string) => {
  process.stdout.write(text);
  const isListening = () => withoutSigns(output).includes("guest: keyboard listens");
  const wasListening = isListening();
  output += text;
  if (isListening() && !wasListening) type(["H", "i\n"]);
});
bulkhead.once("close", (status) => {
  process.exitCode = status ?? 1;
  const last = fs.readFileSync(image).subarray(-BLOCK_BYTES);
  console.log(`host: flaky has ${createHash("sha256").update(last).digest("hex")}`);
  fs.rmSync(directory, { recursive: true });
});
