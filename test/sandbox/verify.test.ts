// What a device must look like from outside, and what is believed of what it says it lacks.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { NAMESPACES, type Weakness } from "../../host/sandbox/pieces.js";
import type { Proof } from "../../host/sandbox/proof.js";
import { type Expected, missingFrom, weaknessesIn } from "../../host/sandbox/verify.js";

const WHOLE: Proof = {
  pid: 2,
  threads: 2,
  seccomp: 2,
  seccompFilters: 1,
  noNewPrivs: true,
  capabilities: "0000000000000000",
  signalsCaught: "0000000000000000",
  uid: 65534,
  wxPages: 0,
  fds: [0, 1, 2, 3, 5].map((fd) => ({ fd, target: "/dev/null" })),
  privateBytes: 0,
  privateFileBytes: 0,
  residentBytes: 0,
  namespaces: [...NAMESPACES],
};

function missing(changes: Partial<Proof>, weak: Weakness["piece"][] = []): string {
  const why = "clone: EPERM";
  const all = weak.map((piece) => ({ piece, why }));
  const expected: Expected = { id: "rng0", seccomp: "enforce", grantCount: 1, weak: all };
  return missingFrom({ ...WHOLE, ...changes }, expected).join();
}

test("missingFrom() finds nothing missing from a whole sandbox", () => {
  assert.is(missing({}), "");
});

test("missingFrom() forgives what was named and nothing else", () => {
  const namespaces = NAMESPACES.filter((name) => name !== "net" && name !== "ipc");
  assert.match(missing({ namespaces }), /it shares net, ipc/);
  assert.match(missing({ namespaces }, ["net namespace"]), /it shares ipc\)/);
  assert.is(missing({ namespaces }, ["net namespace", "ipc namespace"]), "");
  const unfiltered = { seccomp: 0, seccompFilters: 0 };
  assert.match(missing(unfiltered, ["net namespace"]), /a system call filter of its own/);
  assert.is(missing(unfiltered, ["system call filter"]), "");
});

test("missingFrom() does not take a filter around the VMM for the device's own", () => {
  assert.match(missing({ seccomp: 2, seccompFilters: 0 }), /a system call filter of its own/);
});

test("missingFrom() wants the mode of a filter, and a filter in every mode but off", () => {
  assert.match(missing({ seccomp: 1 }), /a system call filter of its own/);
  const bare = { ...WHOLE, seccomp: 0, seccompFilters: 0 };
  const inMode = (seccomp: Expected["seccomp"]) =>
    missingFrom(bare, { id: "rng0", seccomp, grantCount: 1, weak: [] }).join();
  assert.match(inMode("enforce"), /a system call filter of its own/);
  assert.match(inMode("log"), /a system call filter of its own/);
  assert.is(inMode("off"), "");
});

test("missingFrom() counts the descriptors that were granted, and no module among them", () => {
  const fds = [0, 1, 2, 3, 5, 6].map((fd) => ({ fd, target: `/file${fd}` }));
  assert.match(missing({ fds }), /no descriptors but its own \(it has \/file6\)/);
  assert.match(missing({ fds: [{ fd: 4, target: "/module" }] }), /\(it has \/module\)/);
});

test("missingFrom() never forgives privileges, capabilities, pages or descriptors", () => {
  const all: Weakness["piece"][] = ["user namespace", "system call filter", "Landlock"];
  assert.match(missing({ noNewPrivs: false }, all), /no_new_privs/);
  assert.match(missing({ capabilities: "0000000000000001" }, all), /no capabilities/);
  assert.match(missing({ wxPages: 1 }, all), /no page writable and executable/);
  assert.match(missing({ fds: [{ fd: 4, target: "/x" }] }, all), /no descriptors but its own/);
});

test("weaknessesIn() believes a device only what its lock-down can lack", () => {
  const filter = { piece: "system call filter", why: "seccomp: ENOSYS" };
  assert.equal(weaknessesIn({ weak: [filter] }), [filter]);
  assert.equal(weaknessesIn({ weak: [filter, filter] }), [filter]);
  assert.equal(weaknessesIn({ weak: [{ piece: "net namespace", why: "clone: EPERM" }] }), []);
  assert.equal(weaknessesIn({ weak: [{ ...filter, why: "x".repeat(1000) }] }), [
    { ...filter, why: "?" },
  ]);
  for (const weak of [undefined, null, "Landlock", [null], [["Landlock"]], { length: 1 }]) {
    assert.equal(weaknessesIn({ weak }), []);
  }
});

test("missingFrom() lets a device have as many connections as it listens, and where it may", () => {
  const expected: Expected = { id: "port0", seccomp: "enforce", grantCount: 2, weak: [] };
  const open = (...fds: number[]) => ({
    ...WHOLE,
    fds: [0, 1, 2, 3, 5, 6, ...fds].map((fd) => ({ fd, target: `socket:${fd}` })),
  });
  const extra = (openableCount: number, ...fds: number[]) =>
    /its own \(it has (.*)\)/.exec(
      missingFrom(open(...fds), { ...expected, openableCount }).join(),
    );
  assert.is(extra(1, 4), null);
  assert.is(extra(2, 4, 7), null);
  assert.is(extra(0, 4)?.[1], "socket:4");
  assert.is(extra(1, 4, 7)?.[1], "socket:7");
  assert.is(extra(2, 4, 7, 8)?.[1], "socket:8");
});

test.run();
