// Attacks from an owned process: whatever native code in a device process tries, with every wall,
// and with walls taken away so that it is known that the attempts could succeed.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { landlockAbi } from "../../../host/sandbox/landlock.js";
import { note, skip } from "../../support/skip.js";
import { missingNamespaces, type Outcome, World } from "../support/attacker.js";
import { type Goal, WALLS, type Walls } from "./goal.js";
import { GOALS } from "./goals/all.js";

const GOALS_MIN = 40;
const CANARIES_MIN = 15;
/** Attacks at the same time: they mostly wait for each other's processes to start. */
const PARALLEL = 3;
/** What a kernel says that does not have what a canary needs. */
const NOT_IN_THIS_KERNEL = ["ENOSYS", "EAFNOSUPPORT", "EOPNOTSUPP", "ENOTSUP"];

const ABI = landlockAbi();

type Row = Partial<Record<Walls, Outcome>>;

/** Whether `goal` is tried behind `walls`: without any only if it needs that, or it is known. */
function isTried(goal: Goal, walls: Walls): boolean {
  if (goal.spared.includes(walls)) return false;
  if (walls === "Landlock alone") return goal.landlock !== undefined && goal.landlock <= ABI;
  return walls !== "nothing" || goal.canary !== "no filter";
}

async function attackAll(): Promise<ReadonlyMap<Goal, Row>> {
  const rows = new Map(GOALS.map((goal): [Goal, Row] => [goal, {}]));
  const all = GOALS.flatMap((goal) => WALLS.map((walls) => ({ goal, walls })));
  const attacks = all.filter(({ goal, walls }) => isTried(goal, walls));
  const world = await World.create();
  const worker = async () => {
    for (let next = attacks.shift(); next; next = attacks.shift()) {
      const { goal, walls } = next;
      rows.get(goal)![walls] = await world.attack(goal, walls);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  await world.close();
  return rows;
}

function cell(outcome: Outcome | undefined): string {
  if (outcome === undefined) return "-";
  return outcome.reached
    ? `REACHED (${outcome.detail.replace(/result .*/, "done")})`
    : (outcome.denied ?? outcome.detail);
}

function table(rows: ReadonlyMap<Goal, Row>): string {
  const heads = [["goal", ...WALLS.map((walls) => (walls === "all" ? "all walls" : walls))]];
  const lines = [...rows].map(([{ name }, row]) => [name, ...WALLS.map((w) => cell(row[w]))]);
  return [...heads, ...lines].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function summary(rows: ReadonlyMap<Goal, Row>): string {
  const outcomes = (walls: Walls) => [...rows.values()].flatMap((row) => row[walls] ?? []);
  const counts = WALLS.map((walls) => {
    const reached = outcomes(walls).filter((outcome) => outcome.reached).length;
    return `${walls}: ${reached} of ${outcomes(walls).length} reached`;
  });
  const denied = outcomes("all").filter((outcome) => outcome.denied !== undefined).length;
  return `${rows.size} goals, ${denied} end in a denied call; ${counts.join("; ")}`;
}

/** The errno of what Landlock denies, or of a process that it hides. */
const DENIED_BY_LANDLOCK = ["EACCES", "EPERM", "EXDEV"];

function testLandlock(goal: Goal, outcome: Outcome | undefined): void {
  const { name, landlock } = goal;
  if (landlock === undefined) return;
  test(`with Landlock and nothing else it cannot ${name}`, () => {
    if (landlock > ABI) return skip(`Landlock of ABI ${landlock} is needed, here is ${ABI}`);
    assert.not.ok(outcome?.reached, `reached: ${outcome?.detail}`);
    assert.ok(DENIED_BY_LANDLOCK.includes(outcome?.detail ?? ""), outcome?.detail);
  });
}

function testGoal(goal: Goal, row: Row): void {
  const { name, stop, canary } = goal;
  test(`an owned process cannot ${name}`, () => {
    const { all, "no namespaces": filtered } = row;
    assert.not.ok(all?.reached, `reached: ${all?.detail}`);
    assert.is(all?.detail, stop);
    assert.not.ok(filtered?.reached, `reached in spite of the filter: ${filtered?.detail}`);
    if (["denied", "SIGSYS"].includes(stop)) assert.is(filtered?.detail, stop);
  });
  testLandlock(goal, row["Landlock alone"]);
  if (canary === undefined) return;
  if (canary === "nothing") {
    test(`even without a filter it cannot ${name}`, () => {
      const unfiltered = row["no filter"];
      assert.not.ok(unfiltered?.reached, `reached: ${unfiltered?.detail}`);
    });
  }
  test(`canary: with ${canary} a process can ${name}`, () => {
    const outcome = row[canary];
    const isRoot = process.geteuid?.() === 0;
    const absent = NOT_IN_THIS_KERNEL.includes(outcome?.detail ?? "");
    if (outcome?.reached === false && (absent || !isRoot)) {
      skip(`canary of "${name}": ${outcome.detail}${isRoot ? "" : ", run as root"}`);
      return;
    }
    assert.ok(outcome?.reached, outcome?.detail ?? "not tried");
  });
}

const missing = await missingNamespaces();
if (missing !== undefined) {
  skip(missing);
} else {
  const rows = await attackAll();
  for (const [goal, row] of rows) testGoal(goal, row);
  test("there are enough goals, each by one name, and enough canaries", () => {
    assert.ok(GOALS.length >= GOALS_MIN);
    assert.is(new Set(GOALS.map(({ name }) => name)).size, GOALS.length);
    const canaries = [...rows].filter(([{ canary }, row]) => canary && row[canary]?.reached);
    assert.ok(canaries.length >= CANARIES_MIN, `${canaries.length} canaries`);
    const unexplained = GOALS.filter(({ canary, why }) => canary === undefined && why === "");
    assert.equal(unexplained, []);
  });
  note(summary(rows));
  console.log(table(rows));
}

test.run();
