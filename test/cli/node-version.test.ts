import { test } from "uvu";
import * as assert from "uvu/assert";
import { checkNode } from "../../host/cli/node-version.js";
import { EXIT, type VmmError } from "../../host/errors.js";

test("Node 20 runs machines, and so does this one", () => {
  for (const version of ["20.0.0", "20.20.2", process.versions.node]) checkNode(version);
});

test("another Node is refused, with what to do", () => {
  for (const version of ["2.0.0", "18.20.4", "22.23.3", "24.21.0", "200.0.0"]) {
    try {
      checkNode(version);
      assert.unreachable(version);
    } catch (error) {
      assert.is((error as VmmError).exitStatus, EXIT.sandboxFailed);
      assert.match((error as Error).message, new RegExp(`Node ${version}.*\nuse Node 20$`));
    }
  }
});

test.run();
