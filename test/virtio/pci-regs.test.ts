// Every number of host/virtio/pci-regs.ts against the installed headers, whose names they have.

import { test } from "uvu";
import * as assert from "uvu/assert";
import * as regs from "../../host/virtio/pci-regs.js";
import { headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

test("every number of PCI and of virtio over PCI is that of the installed headers", () => {
  const missing = missingCompiler();
  if (missing !== undefined) return skip(missing);
  const claims = new Map(
    Object.entries<number>(regs).map(([name, value]) => [name, BigInt(value)]),
  );
  assert.ok(claims.size > 60, `only ${claims.size} claims`);
  const found = headerValues(["linux/pci_regs.h", "linux/virtio_pci.h"], [...claims.keys()]);
  assert.equal(claims, found);
});

test.run();
