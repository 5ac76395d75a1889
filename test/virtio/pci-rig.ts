// A device behind PCI on a bench: its function, with what it does to its wires noted.

import { MockRam } from "../../host/testing/mock-ram.js";
import type { Msi } from "../../host/virtio/msix.js";
import { PciFunction, type PciFunctionPlace } from "../../host/virtio/pci.js";
import { RegisterFile } from "../../host/virtio/registers.js";
import { RecordingBackend } from "./rig.js";

export const GPA = 0xd0000000;
export const GSI = 17;

export class PciRig {
  readonly ram = new MockRam();
  readonly log: string[] = [];
  readonly backend = new RecordingBackend();
  readonly registers: RegisterFile;
  readonly pci: PciFunction;
  readonly messages: Msi[] = [];
  readonly lines: boolean[] = [];
  readonly places: (number | undefined)[] = [];

  constructor({
    queueSizesMax = [64, 64],
    configBytes = 8,
    place = { gpa: GPA, gsi: GSI } as PciFunctionPlace,
  } = {}) {
    this.registers = new RegisterFile(this.ram.memory, {
      id: "test0",
      virtioId: 4,
      queueSizesMax,
      features: 0n,
      configBytes,
      interruptStatus: new Int32Array(new SharedArrayBuffer(4)),
      interruptIndex: 0,
      interrupt: (queue) => this.pci.interrupt(queue),
      log: (line) => this.log.push(line),
    });
    this.registers.backend = this.backend;
    const wires = {
      message: (message: Msi) => void this.messages.push(message),
      line: (asserted: boolean) => void this.lines.push(asserted),
      notifyAt: (gpa: number | undefined) => void this.places.push(gpa),
    };
    this.pci = new PciFunction(this.registers, wires, place);
  }

  close(): void {
    this.ram.close();
  }
}
