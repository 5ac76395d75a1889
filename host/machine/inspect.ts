// What a device would be allowed to do, before anything of it runs: the same checks and the same
// policy as when it is started, without a process.

import { VmmError } from "../errors.js";
import { readBounded } from "../runtime/bounded-file.js";
import { GRANT_FD_FIRST } from "../sandbox/descriptors.js";
import { exampleOf } from "../sandbox/grant-kinds.js";
import {
  checkImports,
  type GrantSpec,
  placeGrants,
  type ResolvedGrant,
  resolveGrants,
} from "../sandbox/grants.js";
import {
  inspectModule,
  type Manifest,
  MODULE_BYTES_MAX,
  type ModuleFacts,
} from "../sandbox/manifest.js";
import { type Policy, policyOfDevice, syscallsOf } from "../sandbox/policy.js";

/** A grant, and the descriptor that it becomes in the device's process. */
export interface PlacedGrant extends ResolvedGrant {
  fd: number;
}

export interface Inspection {
  module: Uint8Array;
  facts: ModuleFacts;
  grants: PlacedGrant[];
  policy: Policy;
  /** Distinct system calls of the policy. */
  syscalls: string[];
}

/** Every capability of a manifest, granted as it is asked for. */
function everythingAsked({ capabilities }: Manifest): Record<string, GrantSpec> {
  const grants = capabilities.map(({ name, kind, rights }) => [
    name,
    { kind, what: exampleOf(kind), rights },
  ]);
  return Object.fromEntries(grants);
}

/** What is known of the device that a module is to be. */
interface Given {
  /** Its name on the command line. */
  id: string;
  grants: Record<string, GrantSpec>;
}

/**
 * Reads the module at `path` and derives what its process might do as the device `given`; without
 * one, with everything that it asks for.
 *
 * @throws VmmError ERR_FILE, ERR_MODULE or ERR_GRANT, as a start with the same grants would
 */
export function inspectDevice(path: string, given?: Given): Inspection {
  const module = readModule(path);
  const facts = inspectModule(module);
  checkImports(facts);
  const { manifest } = facts;
  const resolved = resolveGrants(manifest, given?.grants ?? everythingAsked(manifest), given?.id);
  const grants = placeGrants(resolved, GRANT_FD_FIRST);
  const policy = policyOfDevice(facts, resolved);
  return { module, facts, grants, policy, syscalls: syscallsOf(policy) };
}

function readModule(path: string): Uint8Array {
  try {
    const bytes = readBounded(path, MODULE_BYTES_MAX);
    if (bytes === undefined) throw new Error("ENOENT, there is no such file");
    return bytes;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VmmError("ERR_FILE", `Cannot read the module "${path}": ${reason}`, { cause });
  }
}
