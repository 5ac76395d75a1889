import { test } from "uvu";
import * as assert from "uvu/assert";
import { bulkhead } from "../support/bulkhead.js";

const COMMANDS = [
  ...["run", "list", "stop", "pause", "resume", "stat", "debug", "top"],
  ...["demo", "inspect", "policy", "new", "build"],
];

test("bulkhead --help lists the commands and succeeds", () => {
  const { status, stdout } = bulkhead(["--help"]);
  assert.is(status, 0);
  for (const command of COMMANDS) {
    assert.match(stdout, new RegExp(`^ {2}${command} `, "m"));
  }
});

test("bulkhead without a command shows the same help as a mistake", () => {
  const { status, stdout, stderr } = bulkhead([]);
  assert.is(status, 2);
  assert.is(stdout, "");
  assert.is(stderr, bulkhead(["--help"]).stdout);
});

test("bulkhead --version prints the version of the package", () => {
  const { status, stdout } = bulkhead(["--version"]);
  assert.is(status, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

test("bulkhead run --help speaks lkvm's words, with examples and exit statuses", () => {
  const { status, stdout } = bulkhead(["run", "--help"]);
  assert.is(status, 0);
  const words = [
    "-k, --kernel",
    "-i, --initrd",
    "-p, --params",
    "-m, --mem",
    "-c, --cpus",
    "--rng",
    "-d, --disk",
  ];
  for (const word of words) assert.match(stdout, word);
  for (const heading of ["Basic options:", "Kernel options:", "Examples:", "Exit status:"]) {
    assert.match(stdout, heading);
  }
});

test("bulkhead run --help offers nothing that is not there", () => {
  const { stdout } = bulkhead(["run", "--help"]);
  for (const word of ["--network", "--balloon", "--vsock", "--9p"]) {
    assert.not.match(stdout, word);
  }
});

test("every command has help of its own", () => {
  for (const command of COMMANDS) {
    const { status, stdout } = bulkhead([command, "--help"]);
    assert.is(status, 0);
    assert.match(stdout, `Usage: bulkhead ${command} `);
  }
});

test.run();
