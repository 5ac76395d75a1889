// The manifest of a device module: read from the module's own description, written into the module.

import {
  type Capability,
  CONTRACT,
  type GrantKind,
  type Manifest,
  type ModuleOption,
  OPTION_TYPES,
  type Right,
} from "../sandbox/manifest.js";

/** Codes of devices-as/sdk/capability.ts. */
const KIND_OF: Record<number, GrantKind> = {
  1: "file",
  2: "clock",
  3: "random",
  4: "unix",
  5: "tty",
  6: "tap",
  7: "dir",
};
const RIGHTS: readonly [bit: number, right: Right][] = [
  [1, "read"],
  [2, "write"],
  [4, "append"],
  [8, "connect"],
  [16, "listen"],
];

/** `struct Declaration` of devices-as/sdk/capability.ts. */
const DECLARATION_BYTES = 16;
/** `struct Declaration` of devices-as/sdk/option.ts, and its types from 1 on. */
const OPTION_BYTES = 8;

interface DescribedModule {
  memory: WebAssembly.Memory;
  _initialize(): void;
  describe(): number;
}

/** Descriptor of WASI that the SDK's log is written to, as one iovec a line. */
const STDERR = 2;

/**
 * Runs the module's own declarations. All it could import throws, so it can reach nothing, except
 * that what it logs goes to `log`: a failing assert of a debug module says there which it is.
 */
function instantiate(binary: Uint8Array, log: (text: string) => void): DescribedModule {
  const module = new WebAssembly.Module(new Uint8Array(binary));
  const imports: Record<string, Record<string, (...values: number[]) => number>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module)) {
    imports[from] ??= {};
    imports[from][name] = (fd, iovec = 0) => {
      if (name !== "fd_write" || fd !== STDERR) {
        throw new Error(`${name} called before the device was started`);
      }
      const { buffer } = device.memory;
      const [at = 0, bytes = 0] = new Uint32Array(buffer.slice(iovec, iovec + 8));
      log(new TextDecoder().decode(new Uint8Array(buffer, at, bytes)));
      return 0;
    };
  }
  const instance = new WebAssembly.Instance(module, imports);
  const device = instance.exports as unknown as DescribedModule;
  return device;
}

/**
 * The manifest of the device module `binary`, from the description that devices-as/sdk/describe.ts
 * lays out (a drawing of it is there).
 *
 * @throws Error when the module does not register a device
 */
export function manifestOf(
  { binary, name }: { binary: Uint8Array; name: string },
  log: (text: string) => void,
): Manifest {
  const device = instantiate(binary, log);
  device._initialize();
  const at = device.describe();
  const view = new DataView(device.memory.buffer);
  const word = (address: number): number => view.getUint32(address, true);

  const queues = Array.from({ length: word(at + 8) }, (_, i) => word(word(at + 4) + i * 4));
  const capabilities = Array.from({ length: word(at + 12) }, (_, i) =>
    capabilityAt(view, word(at + 24) + i * DECLARATION_BYTES),
  );
  const options = Array.from({ length: word(at + 36) }, (_, i) =>
    optionAt(view, word(at + 32) + i * OPTION_BYTES),
  );
  const features = `0x${view.getBigUint64(at + 16, true).toString(16)}`;
  return {
    contract: CONTRACT,
    name,
    virtioId: word(at),
    queues,
    features,
    config: word(at + 28),
    capabilities,
    options,
  };
}

/** A string of AssemblyScript: UTF-16, its length in bytes in the word before it. */
function textAt(view: DataView, at: number): string {
  const bytes = view.getUint32(at - 4, true);
  return new TextDecoder("utf-16le").decode(new Uint8Array(view.buffer, at, bytes));
}

function optionAt(view: DataView, at: number): ModuleOption {
  const type = OPTION_TYPES[view.getUint32(at + 4, true) - 1];
  if (type === undefined) throw new Error("unknown type of option");
  return { name: textAt(view, view.getUint32(at, true)), type };
}

function capabilityAt(view: DataView, at: number): Capability {
  const word = (index: number): number => view.getUint32(at + index * 4, true);
  const kind = KIND_OF[word(1)];
  if (kind === undefined) throw new Error(`unknown kind of capability: ${word(1)}`);
  return {
    name: textAt(view, word(0)),
    kind,
    rights: RIGHTS.filter(([bit]) => word(2) & bit).map(([, right]) => right),
    required: word(3) !== 0,
  };
}
