// The smallest guest there is: its first instructions write one byte to the serial port. When that
// byte arrives, the guest has run.

const LOAD_GPA = 0x10_0000;
const EHDR_BYTES = 64;
const PHDR_BYTES = 56;
const NOTE_BYTES = 24;
const PT_LOAD = 1;
const PT_NOTE = 4;

/**
 * The same bytes mean the same in 32-bit mode (entered by PVH) and in 64-bit mode:
 *
 *   mov dx, 0x3f8 │ mov al, '!' │ out dx, al │ …
 */
const SAY = [0x66, 0xba, 0xf8, 0x03, 0xb0, 0x21, 0xee];
/** mov dx, 0x501 │ xor al, al │ out dx, al: the debug exit. */
const LEAVE = [0x66, 0xba, 0x01, 0x05, 0x30, 0xc0, 0xee];
/** hlt │ jmp back to it: interrupts are off, so nothing ever wakes this CPU. */
const SLEEP = [0xf4, 0xeb, 0xfd];

/** The note that tells a PVH loader where 32-bit code starts (XEN_ELFNOTE_PHYS32_ENTRY). */
function pvhNote(entry: number): Uint8Array {
  const note = new DataView(new ArrayBuffer(NOTE_BYTES));
  note.setUint32(0, 4, true); // namesz
  note.setUint32(4, 8, true); // descsz
  note.setUint32(8, 18, true);
  new Uint8Array(note.buffer, 12).set(Buffer.from("Xen\0", "latin1"));
  note.setBigUint64(16, BigInt(entry), true);
  return new Uint8Array(note.buffer);
}

interface Segment {
  type: number;
  offset: number;
  bytes: number;
}

function writeSegment(image: DataView, at: number, { type, offset, bytes }: Segment): void {
  image.setUint32(at, type, true);
  image.setUint32(at + 4, 7, true); // readable, writable, executable
  image.setBigUint64(at + 8, BigInt(offset), true);
  image.setBigUint64(at + 16, BigInt(LOAD_GPA + offset), true); // p_vaddr
  image.setBigUint64(at + 24, BigInt(LOAD_GPA + offset), true); // p_paddr
  image.setBigUint64(at + 32, BigInt(bytes), true); // p_filesz
  image.setBigUint64(at + 40, BigInt(bytes), true); // p_memsz
  image.setBigUint64(at + 48, 4n, true); // p_align
}

/** An ELF64 kernel that says "!" and then leaves, or sleeps for ever. */
export function firstLightGuest(then: "leave" | "sleep"): Uint8Array {
  return kernelOf([...SAY, ...(then === "leave" ? LEAVE : []), ...SLEEP]);
}

/** An ELF64 kernel that is entered by PVH at the first byte of `code`. */
export function kernelOf(code: readonly number[]): Uint8Array {
  const noteOffset = EHDR_BYTES + 2 * PHDR_BYTES;
  const entryOffset = noteOffset + NOTE_BYTES;
  const bytes = entryOffset + code.length;
  const image = new DataView(new ArrayBuffer(bytes));
  const all = new Uint8Array(image.buffer);
  all.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]); // ELF, 64 bits, little-endian, version 1
  image.setUint16(16, 2, true); // ET_EXEC
  image.setUint16(18, 62, true); // EM_X86_64
  image.setUint32(20, 1, true);
  image.setBigUint64(24, BigInt(LOAD_GPA + entryOffset), true); // e_entry
  image.setBigUint64(32, BigInt(EHDR_BYTES), true); // e_phoff
  image.setUint16(52, EHDR_BYTES, true);
  image.setUint16(54, PHDR_BYTES, true);
  image.setUint16(56, 2, true); // e_phnum
  const note = { type: PT_NOTE, offset: noteOffset, bytes: NOTE_BYTES };
  writeSegment(image, EHDR_BYTES, { type: PT_LOAD, offset: 0, bytes });
  writeSegment(image, EHDR_BYTES + PHDR_BYTES, note);
  all.set(pvhNote(LOAD_GPA + entryOffset), noteOffset);
  all.set(code, entryOffset);
  return all;
}
