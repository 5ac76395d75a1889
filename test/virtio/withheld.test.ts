// Features that a device does not offer, because of what its user granted or set.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { Rig } from "./rig.js";

test("DeviceLink offers the driver what the device does not withhold, of its own features", () => {
  const rig = new Rig({ features: (1n << 52n) | 0b111n });
  const all = rig.driver.readFeatures();
  rig.approves = false;
  rig.device.ready('{"withheld":4294967290}'); // 0xfffffffa: those of queues and transport, too
  rig.settle();
  assert.is(rig.driver.readFeatures(), all, "nobody has looked at the device yet");
  rig.link.approve();
  assert.is(rig.driver.readFeatures(), all & ~0b10n);
  rig.plug();
  rig.approves = true;
  rig.device.ready();
  rig.settle();
  assert.is(rig.driver.readFeatures(), all);
  rig.close();
});

test("DeviceLink breaks with a device that is started again and withholds what is in use", () => {
  const rig = new Rig({ features: 0b11n });
  rig.device.ready('{"withheld":1}');
  rig.settle();
  rig.driver.start();
  rig.plug();
  rig.device.ready('{"withheld":2}');
  rig.expectBroken(/READY that withholds features 0x2, which the driver accepted/);
  rig.close();
});

test.run();
