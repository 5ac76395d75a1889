import { test } from "uvu";
import * as assert from "uvu/assert";
import * as layout from "../../host/machine/layout.js";
import { MEMORY, PORT } from "../../host/machine/mailbox.js";
import { PciBus } from "../../host/machine/pci-bus.js";
import { PciLines } from "../../host/machine/pci-lines.js";
import { BAR_BYTES, NOTIFY } from "../../host/virtio/pci.js";
import { PCI_BASE_ADDRESS_0, PCI_COMMAND, PCI_COMMAND_MEMORY } from "../../host/virtio/pci-regs.js";
import { PciRig } from "../virtio/pci-rig.js";

function access(bus: PciBus, space: typeof MEMORY | typeof PORT, address: number) {
  return bus.find({ space, address, bytes: 4, isWrite: false, value: 0 });
}

/** Configuration mechanism 1: what is read at `offset` of `slot`. */
function mechanism1(bus: PciBus, where: number, bytes = 4): number | undefined {
  const address = access(bus, PORT, layout.PCI_CONFIG_ADDRESS_PORT)!;
  address.window.write(0, 4, where);
  const data = access(bus, PORT, layout.PCI_CONFIG_DATA_PORT + (where & 3));
  return data?.window.read(data.offset, bytes);
}

const ENABLE = 0x8000_0000;

test("PciBus has the host bridge in slot 0 and devices behind it, by ports and by memory", () => {
  const bus = new PciBus([new PciRig().pci, new PciRig().pci]);
  const ids = (slot: number) => {
    const place = access(bus, MEMORY, layout.PCI_ECAM_BASE + slot * 0x8000);
    return [mechanism1(bus, ENABLE + slot * 0x800), place?.window.read(place.offset, 4)];
  };
  assert.equal(ids(0), [0x00081b36, 0x00081b36]);
  assert.equal(ids(1), [0x10441af4, 0x10441af4]);
  assert.equal(ids(2), [0x10441af4, 0x10441af4]);
  assert.equal(ids(3), [undefined, undefined]);
  assert.is(mechanism1(bus, ENABLE + 0x802, 2), 0x1044, "the upper half of a register");
});

test("PciBus has 32 devices: the last slot has two functions, and says so", () => {
  const rigs = Array.from({ length: layout.DEVICES_MAX }, (_, index) => {
    return new PciRig({ place: layout.pciPlace(index) });
  });
  const bus = new PciBus(rigs.map(({ pci }) => pci));
  const found: number[] = [];
  for (let place = 1; place < 256; place++) {
    const header = mechanism1(bus, ENABLE + place * 0x100 + 0xe, 1);
    if (header === undefined) continue;
    found.push(place);
    assert.is(header, place >= 31 * 8 ? 0x80 : 0, `header type at ${place}`);
    const ecam = access(bus, MEMORY, layout.PCI_ECAM_BASE + place * 0x1000)!;
    assert.is(ecam.device, found.length - 1);
    assert.is(ecam.window.read(ecam.offset, 4), 0x10441af4);
  }
  const slots = Array.from({ length: 31 }, (_, i) => (i + 1) * 8);
  assert.equal(found, [...slots, 31 * 8 + 1]);
});

test("PciBus has no other functions, no other bus, and nothing while it is not enabled", () => {
  const bus = new PciBus([new PciRig().pci]);
  assert.is(mechanism1(bus, ENABLE + 0x900), undefined, "function 1 of slot 1");
  assert.is(mechanism1(bus, ENABLE + 0x10800), undefined, "slot 1 of bus 1");
  assert.is(mechanism1(bus, ENABLE + 0x1000_0800), undefined, "reserved bits");
  assert.is(mechanism1(bus, 0x800), undefined);
  assert.is(access(bus, MEMORY, layout.PCI_ECAM_BASE + 0x9000), undefined);
  assert.is(access(bus, PORT, layout.PCI_CONFIG_ADDRESS_PORT + 1), undefined, "the reset port");
});

test("PciBus finds what is in a BAR where it is, and only while memory space is on", () => {
  const { pci } = new PciRig();
  const bus = new PciBus([pci]);
  assert.is(access(bus, MEMORY, 0xd0000000), undefined);
  pci.config.write(PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
  assert.is(access(bus, MEMORY, 0xd0000000 + BAR_BYTES - 4)?.offset, BAR_BYTES - 4);
  assert.is(access(bus, MEMORY, 0xd0000000 + BAR_BYTES), undefined);
  pci.config.write(PCI_BASE_ADDRESS_0, 4, 0xd9000000);
  assert.is(access(bus, MEMORY, 0xd0000000), undefined);
  assert.is(access(bus, MEMORY, 0xd9000004)?.offset, 4);
});

/** What a KVM is asked. */
class RecordingVm {
  readonly calls: string[] = [];
  readonly taken = new Set<number>();

  irqLine(gsi: number, level: boolean): void {
    this.calls.push(`${gsi} ${level}`);
  }

  doorbell(fd: number, { gpa, isOn }: { gpa: number; isOn: boolean }): boolean {
    this.calls.push(`${fd} ${gpa.toString(16)} ${isOn}`);
    return !(isOn && this.taken.has(gpa));
  }

  signalMsi(): boolean {
    return false;
  }
}

function wires(vm: RecordingVm, index = 0, ignored: string[] = []) {
  return new PciLines(vm).wires({
    place: layout.pciPlace(index),
    doorbells: [10, 11],
    ignored: (kind, detail) => ignored.push(`${kind} ${detail}`),
  });
}

test("PciLines rings each queue at an address of its own, and no longer at the one before", () => {
  const vm = new RecordingVm();
  const { notifyAt } = wires(vm);
  notifyAt(0xd0000000 + NOTIFY);
  notifyAt(0xd8000000 + NOTIFY);
  notifyAt(undefined);
  assert.equal(vm.calls, [
    ...["10 d0003000 true", "11 d0003004 true"],
    ...["10 d0003000 false", "11 d0003004 false", "10 d8003000 true", "11 d8003004 true"],
    ...["10 d8003000 false", "11 d8003004 false"],
  ]);
});

test("PciLines rings nothing outside of the host bridge's window: RAM, an APIC", () => {
  const vm = new RecordingVm();
  const { notifyAt } = wires(vm);
  for (const gpa of [0x3000, 0xcfffb000, layout.PCI_ECAM_BASE, layout.LAPIC_BASE, 0xffffb000]) {
    notifyAt(gpa);
    notifyAt(undefined);
  }
  assert.equal(vm.calls, []);
});

test("PciLines says that a BAR lies on another, and that a message is for nobody", () => {
  const vm = new RecordingVm();
  const ignored: string[] = [];
  const made = wires(vm, 0, ignored);
  vm.taken.add(0xd0003004);
  made.notifyAt(0xd0003000);
  made.message({ addressLow: 0, addressHigh: 0, data: 0 });
  assert.is(ignored.length, 2);
  assert.match(ignored[0]!, /BAR on top of another, at 0xd0003000/);
});

test("PciLines keeps a line that two functions share asserted until neither asserts it", () => {
  const vm = new RecordingVm();
  const lines = new PciLines(vm);
  const options = { doorbells: [], ignored: () => {} };
  const one = lines.wires({ ...options, place: layout.pciPlace(0) });
  const other = lines.wires({ ...options, place: layout.pciPlace(8) });
  assert.is(layout.pciPlace(0).gsi, layout.pciPlace(8).gsi);
  one.line(true);
  other.line(true);
  one.line(false);
  assert.equal(vm.calls, ["16 true"]);
  other.line(false);
  assert.equal(vm.calls, ["16 true", "16 false"]);
});

test.run();
