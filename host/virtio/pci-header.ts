// Configuration space of a PCI function (PCI Local Bus Specification 3.0 §6.1): bytes, and which
// bits of them software may change. Whatever it writes besides is without effect, as it is there.

export const PCI_CONFIG_BYTES = 256;

export class PciHeader {
  readonly #bytes = new DataView(new ArrayBuffer(PCI_CONFIG_BYTES));
  readonly #writable = new Uint8Array(PCI_CONFIG_BYTES);

  /** A field of 1, 2 or 4 bytes; `writable` are the bits of it that software may change. */
  define(offset: number, bytes: 1 | 2 | 4, value: number, writable = 0): void {
    for (let i = 0; i < bytes; i++) {
      this.#bytes.setUint8(offset + i, value >>> (8 * i));
      this.#writable[offset + i] = writable >>> (8 * i);
    }
  }

  get8(offset: number): number {
    return this.#bytes.getUint8(offset);
  }

  get16(offset: number): number {
    return this.#bytes.getUint16(offset, true);
  }

  get32(offset: number): number {
    return this.#bytes.getUint32(offset, true);
  }

  set16(offset: number, value: number): void {
    this.#bytes.setUint16(offset, value, true);
  }

  /** What software finds; zero behind the end, which says that nothing is there. */
  read(offset: number, bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes && offset + i < PCI_CONFIG_BYTES; i++) {
      value += this.#bytes.getUint8(offset + i) * 2 ** (8 * i);
    }
    return value;
  }

  /** What software writes, in the bits that it may. */
  write(offset: number, bytes: number, value: number): void {
    for (let i = 0; i < bytes && offset + i < PCI_CONFIG_BYTES; i++) {
      const mask = this.#writable[offset + i]!;
      const kept = this.#bytes.getUint8(offset + i) & ~mask;
      this.#bytes.setUint8(offset + i, kept | ((value >>> (8 * i)) & mask));
    }
  }
}
