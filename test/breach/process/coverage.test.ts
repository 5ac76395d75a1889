// Every rule of every policy is executed: with arguments that it allows under the real filter, and
// with arguments that it just does not allow. Both are made from the policies, so a rule that
// nothing here exercises fails the run.

import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compilePolicy } from "../../../host/sandbox/bpf.js";
import { GRANT_KIND_NAMES, kindRow } from "../../../host/sandbox/grant-kinds.js";
import {
  type GrantKind,
  importsOf,
  type ResolvedGrant,
  type Right,
  WASI_MODULE,
} from "../../../host/sandbox/grants.js";
import { type Capability, inspectModule } from "../../../host/sandbox/manifest.js";
import { type Policy, policyOfDevice, type Rule } from "../../../host/sandbox/policy.js";
import type { ImportedFunction } from "../../../host/sandbox/sections.js";
import { skip } from "../../support/skip.js";
import { newTap, whyNoTap } from "../../support/tap.js";
import { freeTerminal } from "../../support/terminal.js";
import {
  Attacker,
  type AttackerOptions,
  type End,
  imageGrant,
  missingNamespaces,
  NOBODY,
  RNG_MODULE,
} from "../support/attacker.js";
import { directory } from "../support/confined.js";
import type { Exercised, Missed } from "./deeds.js";
import { HARMLESS, unknownOf } from "./exercise.js";
import { killsOf, REFUSED_FIRST } from "./variant.js";

const DEVICES = path.dirname(RNG_MODULE);

/** Somebody to connect to, and whoever connects to a device: each holds its end. */
const peers: net.Socket[] = [];
const server = net.createServer((peer) => void peers.push(peer.on("error", () => {})));
const SERVER = path.join(directory, "server.socket");
await new Promise<void>((resolve) => server.listen(SERVER, resolve));

function visit(what: string): void {
  peers.push(net.connect(what).on("error", () => {}));
}

const FILES = path.join(directory, "files");
fs.mkdirSync(FILES);
fs.chmodSync(FILES, 0o777);
fs.writeFileSync(path.join(FILES, "x"), "x");

const line = freeTerminal();
const noTap = whyNoTap();
if (noTap !== undefined) skip(noTap);
const tapName = noTap === undefined ? newTap() : "none";

let sockets = 0;

/** Something of each kind that can be granted; a new kind needs a line. */
const GRANTED: Readonly<Record<GrantKind, (rights: Right[]) => ResolvedGrant>> = {
  file: imageGrant,
  dir: (rights) => ({ name: "files", kind: "dir", what: FILES, rights: [...rights] }),
  clock: () => ({ name: "clock", kind: "clock", what: "monotonic", rights: ["read"] }),
  unix: (rights) => {
    if (!rights.includes("listen")) return { name: "port", kind: "unix", what: SERVER, rights };
    const what = path.join(directory, `device${sockets++}.socket`);
    return { name: "port", kind: "unix", what, rights: ["listen"] };
  },
  tty: (rights) => ({ name: "line", kind: "tty", what: line.name, rights: [...rights] }),
  tap: () => ({ name: "net", kind: "tap", what: tapName, rights: ["read", "write"] }),
  random: () => ({ name: "random", kind: "random", what: "urandom", rights: ["read"] }),
};

interface Device {
  name: string;
  module: string;
  imports: ImportedFunction[];
  grants: ResolvedGrant[];
}

function grantOf({ name, kind, rights }: Capability): ResolvedGrant {
  const grant = GRANTED[kind](rights);
  return { ...grant, name, rights: kind === "unix" ? grant.rights : rights };
}

function built(file: string): Device {
  const module = path.join(DEVICES, file);
  const { manifest, imports } = inspectModule(fs.readFileSync(module));
  const name = path.basename(file, ".wasm");
  return { name, module, imports, grants: manifest.capabilities.map(grantOf) };
}

/** What a device leaves out for whom all functions of a kind would be too many system calls. */
const DONE_WITHOUT = [
  ["fd_read", "fd_write"],
  ["fd_pread", "fd_pwrite"],
];

/** Devices that were granted one kind with some rights, and import all that this links. */
function greedy(kind: GrantKind, rights: readonly Right[]): Device[] {
  const grant: ResolvedGrant = { ...GRANTED[kind]([...rights]), rights: [...rights] };
  const all = importsOf(kind, rights);
  const isTooMuch = kind === "dir" && rights.includes("write");
  return (isTooMuch ? DONE_WITHOUT : [[]]).map((without) => {
    const names = all.filter((name) => !without.includes(name));
    const imports = names.map((name) => ({ module: WASI_MODULE, name }));
    const name = [`a ${kind} to ${rights.join("+")}`, ...without].join(" without ");
    return { name, module: RNG_MODULE, imports, grants: [grant] };
  });
}

/** The built-in devices, and the examples. */
const files = fs
  .readdirSync(DEVICES, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".wasm") && !file.endsWith(".debug.wasm"));
const devices = [
  ...files.map(built),
  ...GRANT_KIND_NAMES.filter((kind) => kind !== "tap" || noTap === undefined).flatMap((kind) =>
    Object.values(kindRow(kind).words).flatMap((rights) => greedy(kind, rights)),
  ),
];

interface Performance {
  said: string | undefined;
  exit: End;
}

/** Lets an attacker with the policy of `device` do something, and then go. */
async function perform(
  device: Device,
  deed: string,
  more: AttackerOptions = {},
): Promise<Performance> {
  const attacker = new Attacker({ deed, context: NOBODY }, { ...device, ...more });
  try {
    await attacker.ready();
    for (const { what, rights } of device.grants) if (rights.includes("listen")) visit(what);
    attacker.go();
    const said = await attacker.hear();
    if (said !== undefined) attacker.go();
    return { said, exit: await attacker.end() };
  } finally {
    await attacker.close();
  }
}

function nameOf({ syscall, args }: Rule): string {
  const tests = args.map(({ arg, values }) => `${arg} = ${values.join(" or ")}`);
  return `${syscall}(${tests.join(", ")})`;
}

async function testAllowed(device: Device, { rules }: Policy): Promise<void> {
  const { said, exit } = await perform(device, "exercise");
  if (said === undefined) throw new Error(`it ended early: ${exit.reason}`);
  const exercised = JSON.parse(said) as Exercised[];
  const failed = exercised.filter(({ result }) => result < 0 && !HARMLESS.includes(result));
  assert.equal(failed, []);
  const hit = new Set(exercised.map(({ rule }) => rules[rule]!));
  // The process said all this, and then left by the only way there is.
  assert.is(exit.status, 0, exit.reason);
  const unhit = rules.filter((rule) => !hit.has(rule)).map(nameOf);
  assert.equal(unhit, ["exit_group()"]);
}

/** The refusal of each system call, in the order of the filter: after those of foreign ABIs. */
function refusalOf({ rules }: Policy, { nr }: Rule): number {
  const numbers = [...new Set(rules.map((rule) => rule.nr))];
  return -(REFUSED_FIRST + 2 + numbers.indexOf(nr));
}

async function testRefused(device: Device, policy: Policy): Promise<void> {
  const { said, exit } = await perform(device, "misses", { seccomp: "off" });
  if (said?.startsWith("[") !== true) throw new Error(`it ended early: ${said} ${exit.reason}`);
  for (const { rule, results } of JSON.parse(said) as Missed[]) {
    const each = policy.rules[rule]!;
    const expected = each.args.length === 0 ? [] : [refusalOf(policy, each)];
    assert.equal(results, expected, nameOf(each));
  }
}

async function testDeaths(device: Device, { rules }: Policy): Promise<void> {
  const tested = [...rules.entries()].filter(([, { args }]) => args.length > 0);
  for (const [index, rule] of tested) {
    const { said, exit } = await perform(device, `miss ${index}`);
    assert.is(said, undefined, `${nameOf(rule)} allows its near miss`);
    assert.is(exit.denied?.split("(")[0], rule.syscall, nameOf(rule));
  }
}

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
for (const device of missing === undefined ? devices : []) {
  const policy = policyOfDevice(device, device.grants);

  test(`policy of ${device.name}: each system call can be exercised here`, () => {
    assert.equal(unknownOf(policy), []);
    assert.ok(killsOf(compilePolicy(policy)).length > 3);
  });

  test(`policy of ${device.name}: each rule is hit by a call that succeeds under the filter`, () =>
    testAllowed(device, policy));

  test(`policy of ${device.name}: each bit that a rule tests matters`, () =>
    testRefused(device, policy));

  test(`policy of ${device.name}: a near miss of each rule that tests anything kills`, () =>
    testDeaths(device, policy));
}

test.after(() => {
  for (const peer of peers) peer.destroy();
  server.close();
  fs.closeSync(line.master);
});

test.run();
