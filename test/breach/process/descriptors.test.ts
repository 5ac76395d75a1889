// Descriptors on their way through sockets count for all processes of one user together (unix(7),
// ETOOMANYREFS). Each device sends one, the listener of its filter, and must be able to.

import { setTimeout as sleep } from "node:timers/promises";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { waitingBytes } from "../../../host/ffi/socket.js";
import { skip } from "../../support/skip.js";
import { Attacker, missingNamespaces, NOBODY } from "../support/attacker.js";

/** More than a device may have open, and so than it could have on their way. */
const TOGETHER = 12;
const POLL_MS = 5;
const HOARD = "fill the VMM's descriptor table: SCM_RIGHTS, many times";

function start(deed: string, count: number): Attacker[] {
  return Array.from({ length: count }, () => new Attacker({ deed, context: NOBODY }));
}

/** Waits until each has sent a message that nobody has taken, or has ended. */
async function allWait(attackers: readonly Attacker[]): Promise<void> {
  while (attackers.some(({ process }) => waitingBytes(process.socketFd) < 0)) await sleep(POLL_MS);
}

async function closeAll(attackers: readonly Attacker[]): Promise<void> {
  await Promise.all(attackers.map((attacker) => attacker.close()));
}

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  test(`${TOGETHER} devices can start while the VMM looks at none of them`, async () => {
    const attackers = start("nothing", TOGETHER);
    try {
      await allWait(attackers);
      for (const attacker of attackers) await attacker.ready();
    } finally {
      await closeAll(attackers);
    }
  });

  test("a device starts while others have sent the VMM all descriptors that they can", async () => {
    const hoarders = start(HOARD, 2);
    const late: Attacker[] = [];
    try {
      for (const hoarder of hoarders) await hoarder.ready();
      for (const hoarder of hoarders) hoarder.go();
      await allWait(hoarders);
      late.push(...start("nothing", 2));
      await allWait(late);
      for (const attacker of late) await attacker.ready();
      const found = await Promise.all(hoarders.map((hoarder) => hoarder.hear()));
      assert.ok(
        found.some((text) => text?.includes('"sent"')),
        found.join(),
      );
    } finally {
      await closeAll([...hoarders, ...late]);
    }
  });
}

test.run();
