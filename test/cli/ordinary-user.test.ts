// Bulkhead started by an ordinary user who is in the group of /dev/kvm: no root, no capability.

import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { whyNoKvm } from "../support/bulkhead.js";
import { skip } from "../support/skip.js";

const CHECKOUT = fileURLToPath(new URL("../../../", import.meta.url));
/** What a user needs who may not read the checkout: it may be in somebody's home. */
const PARTS = ["package.json", "dist/bundle", "dist/devices", "dist/guest"];
const PACKAGES = ["koffi", "@koromix", "commander", "cli-table3", "string-width", "ansi-regex"];
const MORE_PACKAGES = ["strip-ansi", "is-fullwidth-code-point", "emoji-regex"];
/** A user and a group; neither has to exist. */
const ID = 12345;
const LIMIT_MS = 60_000;

/** In a mount namespace of its own, /dev/kvm is a device node of group ID. */
const AS_USER = `
  mknod "$1/kvm" c 10 232; chown 0:${ID} "$1/kvm"; chmod 660 "$1/kvm"
  mount --bind "$1/kvm" /dev/kvm
  shift; exec setpriv --reuid=${ID} --regid=${ID} --clear-groups "$@"`;

const directory = mkdtempSync(path.join(os.tmpdir(), "bulkhead-ordinary-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));

function commandOf(...words: string[]): string[] {
  return ["--mount", "sh", "-ec", AS_USER, "sh", directory, ...words];
}

/** Why none can be started here. */
function whyNot(): string | undefined {
  if (process.geteuid?.() !== 0) return "only root can become an ordinary user: run as root";
  const probe = spawnSync("unshare", commandOf("test", "-w", "/dev/kvm"), { encoding: "utf8" });
  rmSync(path.join(directory, "kvm"), { force: true });
  return probe.status === 0 ? undefined : `cannot become an ordinary user: ${probe.stderr}`;
}

function copyCheckout(): string {
  const modules = [...PACKAGES, ...MORE_PACKAGES].map((name) => `node_modules/${name}`);
  for (const part of [...PARTS, ...modules]) {
    const from = path.join(CHECKOUT, part);
    if (existsSync(from)) cpSync(from, path.join(directory, part), { recursive: true });
  }
  spawnSync("chmod", ["-R", "a+rX", directory]);
  return path.join(directory, "dist/bundle/cli/main.js");
}

const reason = whyNoKvm() ?? whyNot();
if (reason !== undefined) {
  skip(reason);
} else {
  const bulkhead = copyCheckout();

  test("an ordinary user's guest runs, and a killed device comes back as confined", async () => {
    const args = ["run", path.join(directory, "dist/guest/entropy.elf"), "--rng", "--json"];
    const words = commandOf(process.execPath, bulkhead, ...args, "-p", "exit=hang bytes=65536");
    const vmm = spawn("unshare", words, { stdio: ["ignore", "pipe", "inherit"] });
    const limit = setTimeout(() => vmm.kill("SIGKILL"), LIMIT_MS);
    const ready: Record<string, unknown>[] = [];
    let text = "";
    let killed = false;
    for await (const line of createInterface(vmm.stdout)) {
      const event = JSON.parse(line) as Record<string, unknown>;
      if (event.event === "serial") text += String(event.text);
      if (event.event === "device-ready") ready.push(event);
      if (ready.length === 2) vmm.kill("SIGTERM");
      if (killed || !text.includes("hangs")) continue;
      process.kill(Number(ready[0]!.pid), "SIGKILL");
      killed = true;
    }
    clearTimeout(limit);
    assert.match(text, /1 passed, 0 failed: PASS/);
    assert.is(ready.length, 2);
    for (const { isolation, syscalls, wxPages, fds, weak } of ready) {
      assert.equal([isolation, syscalls, wxPages, fds, weak], ["process", 12, 0, 5, undefined]);
    }
  });
}

test.run();
