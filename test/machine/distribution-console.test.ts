// A stock Debian whose console is virtio-console: it has its login prompt there and follows the
// terminal's size, and udev gives its programs the named ports.

import * as assert from "uvu/assert";
import { bootsOf, testProgram } from "./distribution.js";

testProgram("console-host.js", [], (debian, result) => {
  debian("logs in on hvc0, which has the terminal's size, also when that changes", () => {
    const lines = bootsOf(result())[0] ?? [];
    assert.ok(lines.includes("login on /dev/hvc0"), lines.join("\n"));
    assert.ok(lines.some((line) => /^consoles: .*\bhvc0\b/.test(line)));
    assert.equal(
      lines.filter((line) => line.startsWith("size ")),
      ["size 40 100", "size 31 99"],
    );
  });

  debian("talks through named ports, and sees who is there", () => {
    const lines = bootsOf(result())[0] ?? [];
    assert.ok(lines.includes("ports: org.bulkhead.pty org.bulkhead.socket"), lines.join("\n"));
    for (const name of ["org.bulkhead.pty", "org.bulkhead.socket"]) {
      assert.ok(lines.includes(`guest hears: to ${name}`), name);
      assert.ok(lines.includes(`guest says: from ${name}`), name);
    }
    assert.is(lines.filter((line) => line === "guest alone: 0").length, 2);
  });

  debian("goes on when the process of its console is killed, and powers off", () => {
    const lines = bootsOf(result())[0] ?? [];
    assert.ok(lines.includes("guest on"), lines.join("\n"));
    assert.ok(lines.includes("console0 is another"));
    assert.ok(lines.some((line) => line.startsWith("poweroff ended with 0 ")));
  });
});
