import { test } from "uvu";
import * as assert from "uvu/assert";
import * as layout from "../../host/virtio/pci.js";
import * as regs from "../../host/virtio/pci-regs.js";
import { CONFIG_CHANGE, INT_CONFIG } from "../../host/virtio/registers.js";
import type { Window } from "../../host/virtio/window.js";
import { GPA, GSI, PciRig } from "./pci-rig.js";
import { Random } from "./random.js";

const MSIX_VECTOR_BYTES = regs.PCI_MSIX_ENTRY_SIZE;

/** The capabilities of a function: id, type of virtio's, and where they are. */
function capabilities({ config }: { config: Window }): { at: number; id: number; type: number }[] {
  const found: { at: number; id: number; type: number }[] = [];
  let at = config.read(regs.PCI_CAPABILITY_LIST, 1);
  while (at !== 0 && found.length < 16) {
    found.push({
      at,
      id: config.read(at, 1),
      type: config.read(at + regs.VIRTIO_PCI_CAP_CFG_TYPE, 1),
    });
    at = config.read(at + 1, 1);
  }
  return found;
}

function virtioCapability(pci: { config: Window }, type: number): number {
  const found = capabilities(pci).find(
    (cap) => cap.id === regs.PCI_CAP_ID_VNDR && cap.type === type,
  );
  return found!.at;
}

function common(rig: PciRig, field: number, bytes: number, value?: number): number {
  if (value === undefined) return rig.pci.bar.read(layout.COMMON + field, bytes);
  rig.pci.bar.write(layout.COMMON + field, bytes, value);
  return 0;
}

/** A driver that has enabled MSI-X, with a vector for each queue and one for the configuration. */
function withMsix(rig: PciRig): void {
  rig.pci.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER);
  const msix = capabilities(rig.pci).find(({ id }) => id === regs.PCI_CAP_ID_MSIX)!.at;
  for (let vector = 0; vector < 3; vector++) {
    const at = layout.MSIX_TABLE + vector * MSIX_VECTOR_BYTES;
    rig.pci.bar.write(at + regs.PCI_MSIX_ENTRY_LOWER_ADDR, 4, 0xfee01000);
    rig.pci.bar.write(at + regs.PCI_MSIX_ENTRY_DATA, 4, 0x30 + vector);
    rig.pci.bar.write(at + regs.PCI_MSIX_ENTRY_VECTOR_CTRL, 4, 0);
  }
  rig.pci.config.write(msix + regs.PCI_MSIX_FLAGS, 2, regs.PCI_MSIX_FLAGS_ENABLE);
  common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2, 2);
  for (const queue of [0, 1]) {
    common(rig, regs.VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
    common(rig, regs.VIRTIO_PCI_COMMON_Q_MSIX, 2, queue);
  }
}

const mask = (rig: PciRig, vector: number, masked: boolean) => {
  const at = layout.MSIX_TABLE + vector * MSIX_VECTOR_BYTES + regs.PCI_MSIX_ENTRY_VECTOR_CTRL;
  rig.pci.bar.write(at, 4, masked ? 1 : 0);
};

const sent = (rig: PciRig) => rig.messages.map(({ data }) => data);

test("PciFunction is a modern virtio device by its ids (§4.1.2)", () => {
  const { config } = new PciRig().pci;
  assert.is(config.read(regs.PCI_VENDOR_ID, 4), 0x10441af4);
  assert.is(config.read(regs.PCI_REVISION_ID, 1), 1);
  assert.is(config.read(regs.PCI_SUBSYSTEM_ID, 2), 0x1044);
  assert.is(config.read(regs.PCI_INTERRUPT_PIN, 1), 1);
  assert.is(config.read(regs.PCI_INTERRUPT_LINE, 1), GSI);
  assert.ok(config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_CAP_LIST);
  config.write(regs.PCI_VENDOR_ID, 4, 0);
  assert.is(config.read(regs.PCI_VENDOR_ID, 4), 0x10441af4);
  assert.is(config.read(255, 4), 0);
  assert.is(config.read(0x100, 4), 0);
});

test("PciFunction lists MSI-X and virtio's five structures, all inside its BAR (§4.1.4)", () => {
  const { pci } = new PciRig();
  assert.equal(
    capabilities(pci).map(({ id, type }) => (id === regs.PCI_CAP_ID_VNDR ? type : `id ${id}`)),
    ["id 17", 1, 2, 3, 4, 5],
  );
  for (const { at } of capabilities(pci).slice(1)) {
    const offset = pci.config.read(at + regs.VIRTIO_PCI_CAP_OFFSET, 4);
    const length = pci.config.read(at + regs.VIRTIO_PCI_CAP_LENGTH, 4);
    assert.ok(offset + length <= layout.BAR_BYTES);
  }
  const without = new PciRig({ configBytes: 0 }).pci;
  assert.not(capabilities(without).some(({ type }) => type === regs.VIRTIO_PCI_CAP_DEVICE_CFG));
});

test("PciFunction tells the size of its BAR, and where it was moved to", () => {
  const rig = new PciRig();
  const { config } = rig.pci;
  assert.is(rig.pci.barGpa, undefined, "memory space is off at first");
  config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY);
  assert.is(rig.pci.barGpa, GPA);
  config.write(regs.PCI_COMMAND, 2, 0);
  config.write(regs.PCI_BASE_ADDRESS_0, 4, 0xffff_ffff);
  assert.is(~config.read(regs.PCI_BASE_ADDRESS_0, 4) + 1, layout.BAR_BYTES);
  config.write(regs.PCI_BASE_ADDRESS_0, 4, 0xd8001234);
  config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_MEMORY);
  assert.is(rig.pci.barGpa, 0xd8000000);
  config.write(regs.PCI_BASE_ADDRESS_0 + 3, 1, 0xd9);
  assert.equal(rig.places, [
    GPA + layout.NOTIFY,
    undefined,
    0xd8000000 + layout.NOTIFY,
    0xd9000000 + layout.NOTIFY,
  ]);
  for (let bar = 1; bar < 6; bar++) {
    config.write(regs.PCI_BASE_ADDRESS_0 + 4 * bar, 4, 0xffff_ffff);
    assert.is(config.read(regs.PCI_BASE_ADDRESS_0 + 4 * bar, 4), 0);
  }
});

test("CommonConfig has each field in its own width only (§4.1.3.1)", () => {
  const rig = new PciRig();
  common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 1, 1);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 1), 1);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 2), 0);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_NUMQ, 2), 2);
  common(rig, regs.VIRTIO_PCI_COMMON_NUMQ, 2, 9);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_NUMQ, 2), 2);
  common(rig, regs.VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_DF, 4) & 1, 1, "VIRTIO_F_VERSION_1");
  common(rig, regs.VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_SIZE, 2), 64);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_NOFF, 2), 1);
  common(rig, regs.VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
  for (const low of [32, 40, 48]) {
    common(rig, low, 4, 0x1234_5000 + low);
    common(rig, low + 4, 4, 7);
    assert.is(common(rig, low, 4), 0x1234_5000 + low);
    assert.is(common(rig, low + 4, 4), 7);
  }
  common(rig, regs.VIRTIO_PCI_COMMON_Q_SELECT, 2, 2);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_SIZE, 2), 0, "a queue that is not there");
  assert.is(rig.log.length, 2, rig.log.join("\n"));
});

test("CommonConfig has no vector where there is no such, and none after a reset", () => {
  const rig = new PciRig();
  common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2, 3);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2), regs.VIRTIO_MSI_NO_VECTOR);
  withMsix(rig);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2), 2);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
  common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 1, 0);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2), regs.VIRTIO_MSI_NO_VECTOR);
  common(rig, regs.VIRTIO_PCI_COMMON_Q_SELECT, 2, 1);
  assert.is(common(rig, regs.VIRTIO_PCI_COMMON_Q_MSIX, 2), regs.VIRTIO_MSI_NO_VECTOR);
});

test("PciFunction sends the message of each event, and none while it is held back", () => {
  const rig = new PciRig();
  withMsix(rig);
  rig.pci.interrupt(1);
  rig.pci.interrupt(CONFIG_CHANGE);
  assert.equal(rig.messages.at(0), { addressLow: 0xfee01000, addressHigh: 0, data: 0x31 });
  assert.equal(sent(rig), [0x31, 0x32]);
  mask(rig, 0, true);
  rig.pci.interrupt(0);
  rig.pci.interrupt(0);
  assert.is(rig.pci.bar.read(layout.MSIX_PBA, 4), 1);
  assert.equal(sent(rig), [0x31, 0x32]);
  mask(rig, 0, false);
  assert.equal(sent(rig), [0x31, 0x32, 0x30], "once, when it is let go");
  assert.is(rig.pci.bar.read(layout.MSIX_PBA, 4), 0);
  assert.equal(rig.lines, [], "the pin is not used");
});

test("PciFunction holds all messages back while the function is masked", () => {
  const rig = new PciRig();
  withMsix(rig);
  const flags = capabilities(rig.pci)[0]!.at + regs.PCI_MSIX_FLAGS;
  const masked = regs.PCI_MSIX_FLAGS_ENABLE | regs.PCI_MSIX_FLAGS_MASKALL;
  rig.pci.config.write(flags, 2, masked);
  rig.pci.interrupt(0);
  rig.pci.interrupt(1);
  assert.equal(sent(rig), []);
  rig.pci.config.write(flags, 2, regs.PCI_MSIX_FLAGS_ENABLE);
  assert.equal(sent(rig), [0x30, 0x31]);
});

test("PciFunction sends no message of before a reset when it is let go later (§2.4.1)", () => {
  const rig = new PciRig();
  start(rig);
  withMsix(rig);
  mask(rig, 0, true);
  rig.pci.interrupt(0);
  common(rig, regs.VIRTIO_PCI_COMMON_DFSELECT, 4, 1);
  assert.is(rig.pci.bar.read(layout.MSIX_PBA, 4), 1, "no reset, and still pending");
  common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 1, 0);
  assert.is(rig.pci.bar.read(layout.MSIX_PBA, 4), 0);
  mask(rig, 0, false);
  assert.equal(sent(rig), []);
});

test("PciFunction sends nothing for an event without a vector", () => {
  const rig = new PciRig();
  withMsix(rig);
  common(rig, regs.VIRTIO_PCI_COMMON_MSIX, 2, regs.VIRTIO_MSI_NO_VECTOR);
  rig.pci.interrupt(CONFIG_CHANGE);
  assert.equal([sent(rig), rig.lines], [[], []]);
});

test("PciFunction without MSI-X asserts its pin until ISR status is read (§4.1.4.5)", () => {
  const rig = new PciRig();
  rig.registers.status = 3;
  rig.registers.driverBug("for a configuration change"); // not running: no interrupt
  assert.equal(rig.lines, []);
  rig.pci.interrupt(0);
  assert.equal(rig.lines, [], "there is nothing to tell");
  raise(rig);
  assert.equal(rig.lines, [true]);
  assert.ok(rig.pci.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT);
  raise(rig);
  assert.equal(rig.lines, [true]);
  assert.is(rig.pci.bar.read(layout.ISR, 1), INT_CONFIG);
  assert.equal(rig.lines, [true, false]);
  assert.is(rig.pci.bar.read(layout.ISR, 1), 0);
  assert.not(rig.pci.config.read(regs.PCI_STATUS, 2) & regs.PCI_STATUS_INTERRUPT);
});

/** A change of the configuration of a device that runs. */
function raise(rig: PciRig): void {
  if (!rig.registers.running) start(rig);
  rig.registers.updateConfig(new Uint8Array(8).fill(rig.registers.config.read(0, 1) + 1));
}

function start({ registers }: PciRig): void {
  registers.status = 0;
  registers.status = 3;
  registers.driverFeaturesSelect = 1;
  registers.driverFeatures = 1;
  registers.status = 11;
  registers.status = 15;
}

test("PciFunction lets go of its pin when it is disabled, reset, or has MSI-X", () => {
  for (const release of [
    (rig: PciRig) => rig.pci.config.write(regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE),
    (rig: PciRig) => common(rig, regs.VIRTIO_PCI_COMMON_STATUS, 1, 0),
    withMsix,
  ]) {
    const rig = new PciRig();
    raise(rig);
    assert.equal(rig.lines, [true]);
    release(rig);
    assert.equal(rig.lines, [true, false]);
  }
});

test("PciFunction takes a notification at the address of each queue", () => {
  const rig = new PciRig();
  start(rig);
  rig.pci.bar.write(layout.NOTIFY + 4 * 9, 2, 0);
  assert.match(rig.log.at(-1) ?? "", /notify of queue 9, which is not there/);
});

test("PciFunction is reached through its configuration space, too (§4.1.4.9)", () => {
  const rig = new PciRig();
  const cap = virtioCapability(rig.pci, regs.VIRTIO_PCI_CAP_PCI_CFG);
  const through = (offset: number, length: number) => {
    rig.pci.config.write(cap + regs.VIRTIO_PCI_CAP_BAR, 1, 0);
    rig.pci.config.write(cap + regs.VIRTIO_PCI_CAP_OFFSET, 4, offset);
    rig.pci.config.write(cap + regs.VIRTIO_PCI_CAP_LENGTH, 4, length);
  };
  through(regs.VIRTIO_PCI_COMMON_STATUS, 1);
  rig.pci.config.write(cap + 16, 1, 1);
  assert.is(rig.registers.status, 1);
  assert.is(rig.pci.config.read(cap + 16, 4), 1);
  for (const [offset, length] of [
    [regs.VIRTIO_PCI_COMMON_STATUS, 3],
    [layout.BAR_BYTES, 4],
    [0xffff_ffff, 1],
    [1, 4],
    [regs.VIRTIO_PCI_COMMON_STATUS, 0],
  ] as const) {
    through(offset, length);
    rig.pci.config.write(cap + 16, 1, 0);
    assert.is(rig.registers.status, 1, `${length} bytes at ${offset}`);
  }
});

test("PciFunction has a driver wait for the device at its configuration, on both ways", () => {
  const rig = new PciRig();
  const cap = virtioCapability(rig.pci, regs.VIRTIO_PCI_CAP_PCI_CFG);
  rig.pci.config.write(cap + regs.VIRTIO_PCI_CAP_OFFSET, 4, layout.DEVICE);
  rig.pci.config.write(cap + regs.VIRTIO_PCI_CAP_LENGTH, 4, 4);
  for (const settled of [true, false]) {
    rig.backend.configSettled = settled;
    assert.is(rig.pci.bar.mustWait(layout.DEVICE + 4), !settled);
    assert.is(rig.pci.bar.mustWait(regs.VIRTIO_PCI_COMMON_CFGGENERATION), !settled);
    assert.is(rig.pci.config.mustWait(cap + 16), !settled);
    assert.not(rig.pci.bar.mustWait(regs.VIRTIO_PCI_COMMON_STATUS));
    assert.not(rig.pci.config.mustWait(0));
  }
});

test("PciFunction takes any access whatever, from a seed", () => {
  const random = new Random(0x9c1);
  for (let round = 0; round < 20; round++) {
    const rig = new PciRig();
    for (let i = 0; i < 3000; i++) {
      const window = random.below(3) === 0 ? rig.pci.config : rig.pci.bar;
      const offset = random.below(window === rig.pci.bar ? layout.BAR_BYTES : 0x1000);
      const bytes = 1 + random.below(4);
      if (random.below(2) === 0) window.write(offset, bytes, random.below(2 ** 32));
      else {
        const value = window.read(offset, bytes);
        assert.ok(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, `${value}`);
      }
      if (random.below(8) === 0) rig.pci.interrupt(random.below(3) - 1);
    }
    assert.ok(rig.pci.barGpa === undefined || rig.pci.barGpa % layout.BAR_BYTES === 0);
    rig.close();
  }
});

test.run();
