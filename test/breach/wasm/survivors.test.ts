// Hostile modules in real, confined processes that get nothing for what they try, and go on.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../../host/runtime/status.js";
import { proofOf } from "../../../host/sandbox/proof.js";
import { started } from "../support/attack.js";
import { ConfinedDevice, endAll, grantOf, scratchFile } from "../support/confined.js";
import { SURVIVORS } from "./survivors.js";

/** Linear memory, node itself and its heap: far more than any of these uses. */
const PRIVATE_BYTES_MAX = 128 * 1024 * 1024;

const guard = scratchFile("nobody reads this");

for (const { name, module, requests, replies } of SURVIVORS) {
  test(name, async () => {
    const device = await started(new ConfinedDevice(module(), [grantOf(guard, ["read"])]));
    for (const expected of replies) {
      device.request(...requests);
      const answer = await device.receive();
      assert.equal(answer?.replies, expected, answer?.text);
    }
    const { seccomp, wxPages, privateBytes } = proofOf(device.process.pid);
    assert.equal({ seccomp, wxPages }, { seccomp: 2, wxPages: 0 });
    assert.ok(privateBytes < PRIVATE_BYTES_MAX, `${privateBytes} bytes`);
    const { status, reason } = await device.leave();
    assert.is(status, STATUS.closed, reason);
  });
}

test.after.each(endAll);
test.run();
