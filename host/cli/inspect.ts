// bulkhead inspect: what is in a module, what it asks for, and what it would be allowed. Nothing of
// it is compiled or run.

import { type Inspection, inspectDevice } from "../machine/inspect.js";
import { parseDevice } from "./device.js";
import { paint, printable, STDOUT, say, sayJson } from "./output.js";
import { policyJson, policyTable } from "./policy.js";
import { checkModule } from "./preflight.js";
import type { InspectOptions } from "./program.js";
import { table } from "./table.js";

function title(text: string): string {
  return `\n${paint(STDOUT, "bold", text)}\n`;
}

/** A descriptor of the device's process; a clock has none. */
function placeOf(fd = -1): string {
  return fd < 0 ? "" : `${fd}`;
}

async function capabilityTable({ facts, grants }: Inspection): Promise<string> {
  const { capabilities } = facts.manifest;
  if (capabilities.length === 0) return "nothing\n";
  const rows = capabilities.map(({ name, kind, rights, required }) => [
    name,
    kind,
    rights.join("+"),
    required ? "required" : "optional",
    placeOf(grants.find((grant) => grant.name === name)?.fd),
  ]);
  return table(["name", "kind", "rights", "", "fd"], rows);
}

async function describe(path: string, inspection: Inspection): Promise<string> {
  const { manifest, imports } = inspection.facts;
  const facts = [
    ["module", `${path}, ${inspection.module.length} bytes`],
    ["name", manifest.name],
    ["virtio id", `${manifest.virtioId}`],
    ["queues", manifest.queues.join(", ")],
    ["features", manifest.features],
    ["imports", imports.map(({ module, name }) => `${module}.${name}`).join(", ") || "none"],
  ];
  return [
    facts.map(([name, value]) => `${name!.padEnd(10)} ${printable(value!)}\n`).join(""),
    title("It asks for"),
    await capabilityTable(inspection),
    title(`With that, its process may make ${inspection.syscalls.length} system calls`),
    await policyTable(inspection),
  ].join("");
}

/** Prints what is in the module of a kind, or in a file. */
export async function inspect(target: string, options: InspectOptions): Promise<number> {
  const { module } = parseDevice(target);
  checkModule(target, module);
  const inspection = inspectDevice(module);
  if (options.json === true) {
    const { module: bytes, facts } = inspection;
    sayJson({ module, moduleBytes: bytes.length, ...facts, policy: policyJson(inspection) });
  } else {
    say(STDOUT, await describe(module, inspection));
  }
  return 0;
}
