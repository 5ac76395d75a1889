// A directory of the host in whole machines: its device reads and writes in it, also after it died.

import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { compileDevice } from "../../host/author/device.js";
import { bulkhead, ENTROPY_GUEST, whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";
import { type VmmProcess, withVmm } from "../support/vmm-process.js";

/** An entropy device that makes a file of each process's first request, and reads from another. */
const SOURCE = `
  import {
    capability, Chain, Device, DirectoryFile, How, register, Rights
  } from "bulkhead/sdk";

  const files = capability.directory("files", Rights.Read | Rights.Write);
  const source = new DirectoryFile();
  const made = new DirectoryFile();
  const NAMES: StaticArray<string> = ["first", "second", "third"];

  class Filer extends Device {
    constructor() {
      super(4, [64]);
    }

    serve(queue: u32, chain: Chain): void {
      for (let i = 0; i < 3 && !made.isOpen; i++) {
        files.open(made, NAMES[i], How.Write | How.New);
      }
      if (!source.isOpen) files.open(source, "source");
      chain.writeFromAt(source, 0, min<u32>(chain.writable, 64));
    }
  }
  register(new Filer());`;

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bulkhead-directory-"));
const MODULE = path.join(directory, "filer.wasm");
const FILES = path.join(directory, "files");
const GRANT = ["--device", MODULE, "--grant", `filer0.files=dir:${FILES}:rw`];
fs.chmodSync(directory, 0o755);
fs.mkdirSync(FILES);
fs.chmodSync(FILES, 0o777);
fs.writeFileSync(path.join(FILES, "source"), "entropy ".repeat(8));

test.before(async () => {
  const { module } = await compileDevice("/nowhere/filer.ts", { source: SOURCE });
  fs.writeFileSync(MODULE, module);
});
test.after(() => fs.rmSync(directory, { recursive: true }));

const made = () => fs.readdirSync(FILES).sort().join();

test("a device in a directory finds it again after it died", async () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const guest = ["-p", "bench seconds=600 depth=1 request=64 timeout=60"];
  await withVmm([...GRANT, ...guest], async (machine: VmmProcess) => {
    await machine.until(() => made() === "first,source");
    const [ready] = machine.events("device-ready");
    process.kill(Number(ready!.pid), "SIGKILL");
    await machine.until(() => made() === "first,second,source");
    assert.is(await machine.end(), 143);
  });
});

test("a directory is not granted to a device inside the VMM", () => {
  const reason = whyNoKvm();
  if (reason !== undefined) return skip(reason);
  const { status, stderr } = bulkhead(["run", ENTROPY_GUEST, ...GRANT, "--isolation", "inline"]);
  assert.match(stderr, /^Error: Cannot grant filer0\.files=dir:.* only a process of its own/);
  assert.is(status, 2);
});

test.run();
