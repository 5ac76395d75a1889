// When the I/O worker looks before it sleeps, and at what. A look is seen by how often it reads the
// clock, which goes on by a tenth of a look each time.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { EPOLLET, EPOLLIN, Epoll } from "../../host/machine/epoll.js";
import { EventFd } from "../../host/machine/eventfd.js";
import { hasCoreToSpare, LOOK_MS_MAX, Lookout, YIELD_MS_MAX } from "../../host/machine/lookout.js";
import { VIRTIO_F_VERSION_1 } from "../../host/virtio/registers.js";
import { pair } from "../virtio/queue-bench.js";

const VERSION_1_ONLY = 1n << VIRTIO_F_VERSION_1;

/** A lookout with one eventfd, a clock of its own, and a core that somebody else may use. */
function rig(looks: boolean) {
  let nowMs = 0;
  let yieldMs = LOOK_MS_MAX / 10;
  let answers = false;
  let yieldCount = 0;
  let events = 0;
  const doorbell = EventFd.create();
  const yields = () => {
    yieldCount++;
    nowMs += yieldMs;
    if (answers) doorbell.signal();
    answers = false;
  };
  const epoll = new Epoll();
  const lookout = new Lookout(epoll, { looks, now: () => nowMs, yields });
  epoll.add(doorbell.fd, EPOLLIN | EPOLLET, () => events++);
  return {
    lookout,
    /** Waits for nothing, or for what is there already: whether it looked in vain before. */
    wait(isThere: boolean): boolean {
      const before = { yieldCount, events };
      if (isThere) doorbell.signal();
      lookout.wait(0);
      assert.is(events - before.events, isThere ? 1 : 0);
      return yieldCount > before.yieldCount;
    },
    /** The same for what comes at once, so that the next wait begins with a look. */
    come(): void {
      this.wait(true);
    },
    /** Makes the descriptor ready. */
    ring(): void {
      doorbell.signal();
    },
    /** Something comes during the first yield of the next look. */
    comeLater(): void {
      answers = true;
    },
    /** A yield takes so long. */
    slow(ms: number): void {
      yieldMs = ms;
    },
    get events() {
      return events;
    },
    get yields() {
      return yieldCount;
    },
    close() {
      epoll.close();
      doorbell.close();
    },
  };
}

test("Lookout that may not look never does", () => {
  const all = rig(false);
  for (let i = 0; i < 10; i++) all.wait(i % 2 === 0);
  assert.is(all.yields, 0);
  const { queue, bench } = pair();
  assert.not(all.lookout.takes(queue, () => {}));
  bench.close();
  all.close();
});

test("Lookout looks when the last event came at once, until it has looked in vain", () => {
  const all = rig(true);
  assert.not(all.wait(false), "nothing came yet");
  all.come();
  assert.ok(all.wait(false), "the last one came at once");
  assert.not(all.wait(false), "the last one did not come");
  all.close();
});

test("Lookout that looks and finds looks again", () => {
  const all = rig(true);
  for (let i = 0; i < 100; i++) all.come();
  assert.ok(all.wait(false));
  all.close();
});

test("Lookout that looks in vain again and again looks ever more rarely", () => {
  const all = rig(true);
  let looks = 0;
  // What comes is slept for, and at once: but whenever it looks, nothing is there.
  for (let i = 0; i < 4000; i++) {
    all.come();
    if (all.wait(false)) looks++;
  }
  assert.ok(looks > 5 && looks < 40, `${looks} looks`);
  all.close();
});

test("Lookout finds what came during a long yield", () => {
  const all = rig(true);
  all.come();
  // The device worked for longer than a look, and has answered when it is done.
  all.slow(2 * LOOK_MS_MAX);
  all.comeLater();
  all.lookout.wait(0);
  assert.is(all.events, 2);
  assert.ok(all.wait(false), "it looks again");
  all.close();
});

test("Lookout whose core is taken away at each yield hardly looks at all", () => {
  const all = rig(true);
  all.slow(2 * YIELD_MS_MAX);
  for (let i = 0; i < 10_000; i++) {
    all.come();
    all.wait(false);
  }
  assert.ok(all.yields > 5 && all.yields < 12, `${all.yields} yields`);
  all.close();
});

test("Lookout whose core was taken away once looks again soon", () => {
  const all = rig(true);
  let waits = 0;
  for (let round = 0; round < 3; round++) {
    all.come();
    all.slow(2 * YIELD_MS_MAX);
    assert.ok(all.wait(false));
    all.slow(LOOK_MS_MAX / 10);
    for (waits = 0; !all.wait(false); waits++) all.come();
    assert.ok(waits > 20 && waits < 40, `${waits} waits, each of two sleeps`);
    for (let i = 0; i < 100; i++) all.come();
  }
  all.close();
});

for (const [how, features] of [
  ["flags", VERSION_1_ONLY],
  ["avail_event", undefined],
] as const) {
  test(`a queue that is looked at needs no notification, by ${how}`, () => {
    const all = rig(true);
    const { queue, driver, bench } = pair(features === undefined ? {} : { features });
    const noticed: number[] = [];
    const notice = (index: number) => {
      noticed.push(index);
      while (queue.pop() >= 0) queue.chains.markSent();
    };
    assert.not(all.lookout.takes(queue, notice), "it will sleep");
    all.come();
    queue.armNotifications();
    queue.suppressNotifications();
    assert.ok(all.lookout.takes(queue, notice));
    driver.add({ writable: [1] });
    assert.not(driver.wantsKick());
    all.lookout.wait(0);
    assert.equal(noticed, [0]);

    assert.ok(all.lookout.takes(queue, notice));
    assert.ok(all.lookout.takes(queue, notice), "which changes nothing");
    all.wait(false);
    assert.equal(noticed, [0], "it looked in vain");
    driver.add({ writable: [1] });
    assert.ok(driver.wantsKick(), "and then the driver is to notify");
    bench.close();
    all.close();
  });
}

test("neither a queue nor a descriptor that always has something keeps the other waiting", () => {
  const all = rig(true);
  const { queue, driver, bench } = pair({ size: 64, features: VERSION_1_ONLY });
  let taken = 0;
  const notice = () => {
    while (queue.pop() >= 0) queue.chains.markSent();
    taken++;
    driver.add({ writable: [1] });
    all.lookout.takes(queue, notice);
  };
  all.come();
  queue.suppressNotifications();
  assert.ok(all.lookout.takes(queue, notice));
  driver.add({ writable: [1] });
  const before = all.events;
  for (let i = 0; i < 40; i++) {
    all.ring();
    all.lookout.wait(0);
  }
  const events = all.events - before;
  assert.ok(taken >= 19 && events >= 19, `${taken} from the queue, ${events} events`);
  bench.close();
  all.close();
});

test("of several queues those with news are noticed, and the others stay looked at", () => {
  const all = rig(true);
  const rigs = [0, 1, 2].map(() => pair({ features: VERSION_1_ONLY }));
  const noticed: number[] = [];
  all.come();
  for (const [which, { queue }] of rigs.entries()) {
    queue.suppressNotifications();
    const notice = () => {
      noticed.push(which);
      while (queue.pop() >= 0) queue.chains.markSent();
    };
    assert.ok(all.lookout.takes(queue, notice));
  }
  for (const which of [0, 2, 1]) {
    rigs[which]!.driver.add({ writable: [1] });
    all.lookout.wait(0);
  }
  assert.equal(noticed, [0, 2, 1]);
  for (const { bench } of rigs) bench.close();
  all.close();
});

test("what a driver offers as the lookout goes to sleep is not slept on", () => {
  const all = rig(true);
  const { queue, driver, bench } = pair({ features: VERSION_1_ONLY });
  const noticed: number[] = [];
  all.come();
  queue.suppressNotifications();
  const notice = (index: number) => noticed.push(index);
  assert.ok(all.lookout.takes(queue, notice));
  // Between the last look and the notifications: nothing tells of it but armNotifications().
  const late = () => driver.add({ writable: [1] });
  const news = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(queue), "hasNews")!;
  Object.defineProperty(queue, "hasNews", { get: () => false });
  late();
  all.lookout.wait(1000);
  assert.equal(noticed, [0]);
  assert.ok(news.get!.call(queue));
  bench.close();
  all.close();
});

test("a queue that was reset while it was looked at is left alone", () => {
  const all = rig(true);
  const { queue, driver, bench } = pair({ features: VERSION_1_ONLY });
  all.come();
  queue.suppressNotifications();
  assert.ok(all.lookout.takes(queue, () => assert.unreachable()));
  driver.add({ writable: [1] });
  bench.driver.reset();
  all.wait(false);
  assert.is(driver.usedFlags, 1, "its rings are the driver's again");
  bench.close();
  all.close();
});

test("hasCoreToSpare() leaves the guest its processors", () => {
  assert.ok(hasCoreToSpare(0));
  assert.not(hasCoreToSpare(100_000));
});

test.run();
