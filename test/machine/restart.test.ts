import { test } from "uvu";
import * as assert from "uvu/assert";
import { DEATHS_MAX, RestartPolicy, type Verdict } from "../../host/machine/restart.js";

function deaths(policy: RestartPolicy, answered: number[]): Verdict[] {
  return answered.map((count) => policy.died(count));
}

test("RestartPolicy restarts a device at once that did some work before each death", () => {
  const verdicts = deaths(new RestartPolicy(), new Array(100).fill(1));
  assert.ok(verdicts.every((verdict) => verdict.restart && verdict.delayMs === 0));
});

test("RestartPolicy waits longer after each death without work, and then gives up", () => {
  const verdicts = deaths(new RestartPolicy(), new Array(DEATHS_MAX + 1).fill(0));
  const delays = verdicts.map((verdict) => (verdict.restart ? verdict.delayMs : "never"));
  assert.equal(delays, [0, 5, 20, 80, 320, 1280, 2000, 2000, "never"]);
});

test("RestartPolicy forgets deaths before the last answered request", () => {
  const policy = new RestartPolicy();
  deaths(policy, new Array(DEATHS_MAX).fill(0));
  assert.equal(policy.died(1), { restart: true, delayMs: 0 });
  assert.equal(policy.died(0), { restart: true, delayMs: 5 });
});

test.run();
