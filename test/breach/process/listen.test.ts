// A device that listens, taken over: it can take those who connect, as many at a time as it has
// listeners, and their descriptors are the ones that its policy names.

import net from "node:net";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { importsOf, type ResolvedGrant, WASI_MODULE } from "../../../host/sandbox/grants.js";
import { skip } from "../../support/skip.js";
import { Attacker, missingNamespaces, NOBODY } from "../support/attacker.js";
import { directory } from "../support/confined.js";

const EMFILE = -24;
const imports = importsOf("unix", ["listen"]).map((name) => ({ module: WASI_MODULE, name }));

function listener(name: string): ResolvedGrant {
  return { name, kind: "unix", what: path.join(directory, name), rights: ["listen"] };
}

/** What accept4(2) gives to a device whose listeners have `visitors` each. */
async function accepted(grants: ResolvedGrant[], fds: string, visitors: number): Promise<unknown> {
  const attacker = new Attacker({ deed: `accept ${fds}`, context: NOBODY }, { grants, imports });
  const peers: net.Socket[] = [];
  try {
    await attacker.ready();
    for (const { what } of grants) {
      for (let i = 0; i < visitors; i++) peers.push(net.connect(what).on("error", () => {}));
    }
    attacker.go();
    return JSON.parse((await attacker.hear()) ?? "null");
  } finally {
    await attacker.close();
    for (const peer of peers) peer.destroy();
  }
}

const missing = await missingNamespaces();
if (missing !== undefined) skip(missing);
else {
  test("a listening device has one connection, at the number that its policy names", async () => {
    assert.equal(await accepted([listener("a")], "5 5 5", 3), [4, EMFILE, EMFILE]);
  });

  test("two listeners have two connections, whoever of them takes both", async () => {
    const grants = [listener("b"), listener("c")];
    assert.equal(await accepted(grants, "6 6 6 5", 3), [4, 7, EMFILE, EMFILE]);
  });
}

test.run();
