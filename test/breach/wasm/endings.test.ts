// Hostile modules in real, confined processes that end by what they do.

import fs from "node:fs";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { STATUS } from "../../../host/runtime/status.js";
import { LOG, READY } from "../../../host/wire/format.js";
import { ConfinedDevice, endAll, grantOf, scratchFile } from "../support/confined.js";
import { ENDINGS } from "./endings.js";

const GUARD = "nobody was granted more than to read this\n";
const guard = scratchFile(GUARD);

for (const { name, module, drive, options, log, status = STATUS.trapped } of ENDINGS) {
  test(name, async () => {
    const device = new ConfinedDevice(module(), [grantOf(guard, ["read"])], options);
    drive?.(device);
    const messages = await device.receiveAll();
    const exit = await device.exit;
    // It was never ready if it attacked before that, it never replied, and it had one last line.
    const types = messages.map((message) => message.type);
    assert.equal(types, drive ? [READY, LOG] : [LOG], messages.at(-1)?.text);
    assert.match(messages.at(-1)?.text ?? "", log);
    assert.is(exit.status, status, exit.reason);
    assert.is(exit.stderr, "");
    assert.is(fs.readFileSync(guard, "latin1"), GUARD);
  });
}

test.after.each(endAll);
test.run();
