// An Epoll that looks before it sleeps: when, and when no more. A look is seen by how often it
// reads the clock, which goes on by a tenth of a look each time.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { EPOLLET, EPOLLIN, Epoll, hasCoreToSpare, LOOK_MS_MAX } from "../../host/machine/epoll.js";
import { EventFd } from "../../host/machine/eventfd.js";

/** An epoll with one eventfd, and how often it has read the clock. */
function rig(looks: boolean) {
  let reads = 0;
  const now = () => (reads++ * LOOK_MS_MAX) / 10;
  const epoll = new Epoll({ looks, now });
  const doorbell = EventFd.create();
  let events = 0;
  epoll.add(doorbell.fd, EPOLLIN | EPOLLET, () => events++);
  return {
    /** Waits for nothing, or for what is there already: whether it looked before it slept. */
    wait(isThere: boolean): boolean {
      const before = { reads, events };
      if (isThere) doorbell.signal();
      epoll.wait(0);
      assert.is(events - before.events, isThere ? 1 : 0);
      return reads - before.reads > (isThere ? 2 : 5);
    },
    get reads() {
      return reads;
    },
    close() {
      epoll.close();
      doorbell.close();
    },
  };
}

test("Epoll that may not look never does", () => {
  const all = rig(false);
  for (let i = 0; i < 10; i++) all.wait(i % 2 === 0);
  assert.is(all.reads, 0);
  all.close();
});

test("Epoll looks when the last event came at once, until it has looked in vain", () => {
  const all = rig(true);
  assert.not(all.wait(false), "nothing came yet");
  all.wait(true);
  assert.ok(all.wait(false), "the last one came at once");
  assert.not(all.wait(false), "the last one did not come");
  all.close();
});

test("Epoll that looks and finds looks again", () => {
  const all = rig(true);
  all.wait(true);
  for (let i = 0; i < 100; i++) all.wait(true);
  assert.ok(all.wait(false));
  all.close();
});

test("Epoll that looks in vain again and again looks ever more rarely", () => {
  const all = rig(true);
  let looks = 0;
  // What comes is slept for, and at once: but whenever it looks, nothing is there.
  for (let i = 0; i < 4000; i++) {
    all.wait(true);
    if (all.wait(false)) looks++;
  }
  assert.ok(looks > 5 && looks < 40, `${looks} looks`);
  all.close();
});

test("hasCoreToSpare() leaves the guest its processors", () => {
  assert.not(hasCoreToSpare(100_000));
});

test.run();
