import { test } from "uvu";
import * as assert from "uvu/assert";
import { consoleSpec, deviceConfigs, parseDevice, parseGrant } from "../../host/cli/device.js";

const CONFINED = { isolation: "process", seccomp: "enforce" } as const;
const URANDOM = { kind: "file", what: "/dev/urandom", rights: ["read"] };

function devices(specs: string[], grants: string[] = []) {
  return deviceConfigs(specs.map(parseDevice), grants.map(parseGrant), CONFINED);
}

test("deviceConfigs() numbers devices by name in the order of --device", () => {
  const ids = devices(["rng", "./mine.wasm", "rng", "/elsewhere/mine.wasm"]).map(({ id }) => id);
  assert.equal(ids, ["rng0", "mine0", "rng1", "mine1"]);
});

test("deviceConfigs() numbers a kind and a module of the same name together", () => {
  assert.equal(
    devices(["rng", "./rng.wasm"]).map(({ id }) => id),
    ["rng0", "rng1"],
  );
});

test("deviceConfigs() makes an id of any file name", () => {
  assert.is(devices(["./my disk.v2.wasm"])[0]?.id, "my-disk-v20");
  assert.is(devices(["./.wasm"])[0]?.id, "device0");
});

test("deviceConfigs() grants rng /dev/urandom, read-only, when nothing is named", () => {
  const [rng] = devices(["rng"]);
  assert.equal(rng?.grants, { source: URANDOM });
  assert.match(rng?.module ?? "", /dist\/devices\/rng\.wasm$/);
});

test("deviceConfigs() grants rng what its key source names", () => {
  const [rng] = devices(["rng,source=/dev/hwrng"]);
  assert.equal(rng?.grants, { source: { ...URANDOM, what: "/dev/hwrng" } });
});

test("deviceConfigs() prefers a --grant to the default", () => {
  const [rng] = devices(["rng"], ["rng0.source=file:/tmp/a,b:ro"]);
  assert.equal(rng?.grants, { source: { ...URANDOM, what: "/tmp/a,b" } });
});

test("deviceConfigs() gives a grant to the device it names only", () => {
  const [first, second] = devices(["./a.wasm", "./a.wasm"], ["a1.image=file:x:rw"]);
  assert.equal(first?.grants, {});
  assert.equal(second?.grants, { image: { kind: "file", what: "x", rights: ["read", "write"] } });
});

test("deviceConfigs() takes the words behind a module for its options", () => {
  const [mine, other] = devices(["./mine.wasm,rate=1,on,text=a=b,__proto__=x", "./mine.wasm"]);
  const expected = [
    ["rate", "1"],
    ["on", true],
    ["text", "a=b"],
    ["__proto__", "x"],
  ];
  assert.equal(Object.entries(mine?.options ?? {}), expected);
  assert.equal(other?.options, {});
});

test("deviceConfigs() narrows what is granted, wherever the word stands", () => {
  const ro = { image: { kind: "file", what: "a.img", rights: ["read"] } };
  assert.equal(devices(["blk,image=a.img,ro"])[0]?.grants, ro);
  assert.equal(devices(["blk,ro,image=a.img"])[0]?.grants, ro);
  const rw = { image: { ...ro.image, rights: ["read", "write"] } };
  assert.equal(devices(["blk,image=a.img", "blk,image=a.img,ro"])[0]?.grants, rw);
});

test("deviceConfigs() sets the options of a kind, and those that follow from a name", () => {
  const options = (spec: string) => devices([spec])[0]?.options;
  assert.equal(options("blk,image=a.img,serial=a=b,queues=4"), { serial: "a=b", queues: "4" });
  assert.equal(options("blk,image=a.QCOW2"), { format: "qcow2" });
  assert.equal(options("blk,image=a.qcow2,format=raw"), { format: "raw" });
  assert.equal(options("blk,image=qcow2"), {});
});

test("deviceConfigs() refuses a grant to a device that is not there", () => {
  assert.throws(
    () => devices(["rng"], ["rng1.source=file:x"]),
    /no device "rng1", did you mean "rng0"/,
  );
  assert.throws(() => devices([], ["rng0.source=file:x"]), /no device "rng0", there is none/);
});

test("deviceConfigs() refuses the same grant twice", () => {
  const twice = ["a0.image=file:x", "a0.image=file:y"];
  assert.throws(() => devices(["./a.wasm"], twice), /a0\.image: "y", it was granted before/);
  const keyAndGrant = () => devices(["rng,source=/x"], ["rng0.source=file:/y"]);
  assert.throws(keyAndGrant, /rng0\.source: "\/y", it was granted before/);
});

test("deviceConfigs() refuses more devices than a machine has room for", () => {
  assert.is(devices(new Array(32).fill("rng")).at(-1)?.id, "rng31");
  assert.throws(() => devices(new Array(33).fill("rng")), /33 devices, 32 is the most/);
});

test("consoleSpec() says where a console goes, as a --device", () => {
  const each = ["virtio", "unix:/run/a:b", "out.txt", "virtio,port=/run/agent,name1=agent"];
  assert.equal(each.map(consoleSpec), [
    "console",
    "console,unix=/run/a:b",
    "console,file=out.txt",
    "console,port=/run/agent,name1=agent",
  ]);
  assert.throws(() => parseDevice(consoleSpec("")), /key "file" has no value/);
  assert.throws(() => parseDevice(consoleSpec("unix:")), /key "unix" has no value/);
  const { grants, options } = parseDevice(consoleSpec(each[3]!));
  assert.equal(grants, { port1: { kind: "unix", what: "/run/agent", rights: ["listen"] } });
  assert.equal(options, { name1: "agent" });
});

test("parseDevice() suggests the kind that was probably meant", () => {
  assert.throws(() => parseDevice("rgn"), /"rgn": no such kind, did you mean "rng"\?/);
  assert.throws(
    () => parseDevice("toaster"),
    /no such kind, known: blk, console, rng\n.*\.\/toaster\.wasm/,
  );
  assert.throws(() => parseDevice("constructor"), /no such kind/);
});

for (const [spec, cause] of [
  ["", "it names no device"],
  [",source=/x", "it names no device"],
  ["rng,", "nothing between two commas or at the end"],
  ["rng,,source=/x", "nothing between two commas"],
  ["rng,sorce=/x", 'unknown key "sorce", did you mean "source"?'],
  ["rng,ro", 'unknown key "ro", known: source'],
  ["rng,toString=/x", 'unknown key "toString"'],
  ["rng,source", 'key "source" has no value'],
  ["rng,source=", 'key "source" has no value'],
  ["blk,image=/x,ro=yes", 'key "ro" takes no value'],
  ["blk,image=/x,ro,ro", 'key "ro" is there twice'],
  ["blk,ro", '"ro" of nothing: image is not there'],
  ["blk,image=/x,serial", 'key "serial" has no value'],
  ["blk,image=/x,serial=a,serial=b", 'key "serial" is there twice'],
  ["rng,source=/x,source=/y", 'key "source" is there twice'],
  ["./mine.wasm,=5", '"=5" names no option'],
  ["./mine.wasm,rate=1,rate=2", 'option "rate" is there twice'],
] as const) {
  test(`parseDevice() refuses "${spec}": ${cause}`, () => {
    assert.throws(
      () => parseDevice(spec),
      (error: Error) => error.message.includes(cause),
    );
  });
}

test("parseGrant() reads ID.NAME=KIND:WHAT and grants reading only by default", () => {
  assert.equal(parseGrant("mine0.image=file:data.bin"), {
    id: "mine0",
    name: "image",
    grant: { kind: "file", what: "data.bin", rights: ["read"] },
  });
});

test("parseGrant() reads the rights ro, wo, rw and ap", () => {
  assert.equal(parseGrant("a0.b=file:x:ap").grant.rights, ["append"]);
  assert.equal(parseGrant("a0.b=file:x:ro").grant.rights, ["read"]);
  assert.equal(parseGrant("a0.b=file:x:wo").grant.rights, ["write"]);
  assert.equal(parseGrant("a0.b=file:x:rw").grant.rights, ["read", "write"]);
});

test("parseGrant() leaves colons and equal signs in a path alone", () => {
  assert.is(parseGrant("a0.b=file:/x:y=z").grant.what, "/x:y=z");
  assert.is(parseGrant("a0.b=file:/x:ro:rw").grant.what, "/x:ro");
});

for (const text of [
  "",
  "a0",
  "a0.b",
  "a0.b=",
  "a0.b=file",
  "a0.b=file:",
  "a0=file:x",
  ".b=file:x",
]) {
  test(`parseGrant() refuses "${text}" as malformed`, () => {
    assert.throws(() => parseGrant(text), /it is not ID\.NAME=KIND:WHAT\[:RIGHTS\]/);
  });
}

test("parseGrant() refuses a kind that nobody knows and a grant of nothing", () => {
  assert.throws(() => parseGrant("a0.b=flie:x"), /unknown kind "flie", did you mean "file"\?/);
  assert.throws(() => parseGrant("a0.b=file::ro"), /names no file/);
  assert.throws(() => parseGrant("a0.__proto__=file:x"), /it is not ID\.NAME/);
});

test("parseGrant() shows what to type when a kind does not have a right, or a source", () => {
  assert.throws(
    () => parseGrant("a0.b=random:urandom:rw"),
    /^Cannot grant a0\.b: a random cannot be granted as "rw"\n.*--grant a0\.b=random:urandom$/,
  );
  assert.throws(
    () => parseGrant("a0.b=random:dice"),
    /"dice": there is no such random\n.*--grant a0\.b=random:urandom$/,
  );
  assert.throws(() => parseGrant("a0.b=file:"), /it is not ID/);
});

test("parseGrant() reads a clock", () => {
  const grant = { kind: "clock", what: "realtime", rights: ["read"] };
  assert.equal(parseGrant("a0.now=clock:realtime").grant, grant);
});

test("parseGrant() reads a tap, which has no rights to choose, and refuses what is no name", () => {
  const grant = { kind: "tap", what: "tap0", rights: ["read", "write"] };
  assert.equal(parseGrant("a0.net=tap:tap0").grant, grant);
  assert.throws(() => parseGrant("a0.net=tap:tap0:ro"), /a tap cannot be granted as "ro"/);
  for (const what of ["..", "eth 0", "a/b", "sixteen-letters!"]) {
    assert.throws(
      () => parseGrant(`a0.net=tap:${what}`),
      /no interface can have that name\n.*IFNAME/,
    );
  }
});

test("parseGrant() grants random:urandom for reading", () => {
  const grant = { kind: "random", what: "urandom", rights: ["read"] };
  assert.equal(parseGrant("a0.b=random:urandom").grant, grant);
});

test.run();
