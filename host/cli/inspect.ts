// bulkhead inspect: what is in a module, what it asks for, and what it would be allowed. Nothing of
// it is compiled or run.

import { VmmError } from "../errors.js";
import { type Inspection, inspectDevice } from "../machine/inspect.js";
import { type DeviceSpec, grantText, parseDevice } from "./device.js";
import { paint, printable, STDOUT, say, sayJson } from "./output.js";
import { policyJson, policyTable } from "./policy.js";
import { checkModule } from "./preflight.js";
import { table } from "./table.js";

export interface InspectOptions {
  json?: boolean;
  wat?: boolean;
}

/** The option that grants a capability to the first device of its module. */
function optionOf({ name: device }: DeviceSpec, { grants }: Inspection, name: string): string {
  const grant = grants.find((each) => each.name === name);
  return grant === undefined ? "" : `--grant ${device}0.${name}=${grantText(grant)}`;
}

function title(text: string): string {
  return `\n${paint(STDOUT, "bold", text)}\n`;
}

/** A descriptor of the device's process; a clock has none. */
function placeOf(fd = -1): string {
  return fd < 0 ? "" : `${fd}`;
}

async function capabilityTable(spec: DeviceSpec, inspection: Inspection): Promise<string> {
  const { facts, grants } = inspection;
  const { capabilities } = facts.manifest;
  if (capabilities.length === 0) return "nothing\n";
  const rows = capabilities.map(({ name, kind, rights, required }) => {
    const fallback = spec.fallbacks[name]?.what;
    const otherwise = fallback === undefined ? "" : ` (else ${fallback})`;
    return [
      name,
      kind,
      rights.join("+"),
      required ? "required" : "optional",
      placeOf(grants.find((grant) => grant.name === name)?.fd),
      `${optionOf(spec, inspection, name)}${otherwise}`,
    ];
  });
  return table(["name", "kind", "rights", "", "fd", "granted with"], rows);
}

function exportTable({ facts }: Inspection): Promise<string> {
  return table(
    ["name", "type"],
    facts.exports.map(({ name, type }) => [name, type]),
  );
}

/** What may stand behind the module in --device. */
function optionsText(spec: DeviceSpec, { facts }: Inspection): string {
  const words = facts.manifest.options.map(({ name, type }) =>
    type === "flag" ? name : `${name}=${type.toUpperCase()}`,
  );
  return words.length === 0 ? "none" : `--device ${[spec.module, ...words].join(",")}`;
}

const KIB_PER_PAGE = 64;

async function describe(spec: DeviceSpec, inspection: Inspection): Promise<string> {
  const { manifest, imports, memory } = inspection.facts;
  const { initialPages, maximumPages } = memory;
  const size = (pages: number) => `${pages * KIB_PER_PAGE} KiB`;
  const facts = [
    ["module", `${spec.module}, ${inspection.module.length} bytes`],
    ["contract", `${manifest.contract}`],
    ["name", manifest.name],
    ["virtio id", `${manifest.virtioId}`],
    ["queues", manifest.queues.join(", ")],
    ["features", manifest.features],
    ["config", `${manifest.config} bytes`],
    ["options", optionsText(spec, inspection)],
    ["memory", `${size(initialPages)} at first, at most ${size(maximumPages)}`],
    ["imports", imports.map(({ module, name }) => `${module}.${name}`).join(", ") || "none"],
  ];
  return [
    facts.map(([name, value]) => `${name!.padEnd(10)} ${printable(value!)}\n`).join(""),
    title("It exports"),
    await exportTable(inspection),
    title("It asks for"),
    await capabilityTable(spec, inspection),
    title(`With that, its process may make ${inspection.syscalls.length} system calls`),
    await policyTable(inspection),
  ].join("");
}

function asJson(spec: DeviceSpec, inspection: Inspection): object {
  const { module, facts } = inspection;
  const { manifest, ...others } = facts;
  const grants = manifest.capabilities.map(({ name }) => ({
    name,
    option: optionOf(spec, inspection, name),
  }));
  const policy = policyJson(inspection);
  return { module: spec.module, moduleBytes: module.length, manifest, ...others, grants, policy };
}

/** The module in text format. The disassembler is 0.7 MB: it is loaded here and nowhere else. */
async function disassemble(module: Uint8Array): Promise<string> {
  const { default: load } = await import("wabt");
  const wabt = await load();
  try {
    const read = wabt.readWasm(module, { readDebugNames: true });
    read.applyNames();
    return read.toText({});
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_MODULE", `Cannot disassemble the module: ${reason}`, { cause });
  }
}

/** Prints what is in the module of a kind, or in a file. */
export async function inspect(target: string, options: InspectOptions): Promise<number> {
  const spec = parseDevice(target);
  checkModule(target, spec.module);
  const inspection = inspectDevice(spec.module);
  if (options.wat === true) {
    const wat = await disassemble(inspection.module);
    if (options.json === true) sayJson({ module: spec.module, wat });
    else say(STDOUT, printable(wat));
  } else if (options.json === true) {
    sayJson(asJson(spec, inspection));
  } else {
    say(STDOUT, await describe(spec, inspection));
  }
  return 0;
}
