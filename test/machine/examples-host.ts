// The host's side of a guest that uses the examples (examples-init.sh): makes what their devices
// are granted, and runs bulkhead with them. A program of its own, because it runs wherever a job
// runs:
//
//   node examples-host.js KERNEL INITRD

import { spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../..", import.meta.url));

/** A guest that oopses reboots at once, instead of staying there until its time is over. */
const PARAMETERS = "console=ttyS0 quiet oops=panic panic=-1";

/** An example with options, and what follows it: grants. */
function device(name: string, options: string[] = [], grants: string[] = []): string[] {
  const module = path.join(DIST, "devices", "examples", `${name}.wasm`);
  const granted = grants.flatMap((grant) => ["--grant", `${name}0.${grant}`]);
  return ["--device", [module, ...options].join(","), ...granted];
}

const [, , kernel, initrd] = process.argv;
const devices = [
  device("ramdisk", ["size=2M"]),
  device("echo"),
  device("mixer", [], ["one=file:/dev/urandom:ro", "other=file:/dev/random:ro"]),
];
const bulkhead = spawn(
  process.execPath,
  [
    ...[path.join(DIST, "bundle", "cli", "main.js"), "run", "-k", kernel!, "-i", initrd!],
    ...["-m", "256M", "-c", "2", "-p", PARAMETERS, ...devices.flat()],
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);
bulkhead.stdout.setEncoding("utf8").on("data", (text: string) => process.stdout.write(text));
bulkhead.once("close", (status) => {
  process.exitCode = status ?? 1;
});
