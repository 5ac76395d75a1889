import { test } from "uvu";
import * as assert from "uvu/assert";
import {
  BATCH_CHAINS_MAX,
  ENTRY_WORDS,
  HEADER_BYTES,
  HEADER_WORDS,
  MORE,
  PAYLOAD_BYTES_MAX,
  REPLIES,
} from "../../host/wire/format.js";
import { entriesFault, printable } from "../../host/wire/message.js";

/** A header with entries of these sizes and flags. */
function header(entries: readonly { bytes: number; flags?: number }[], count = entries.length) {
  const words = new Uint32Array(HEADER_BYTES / 4);
  words.set([REPLIES, 0, count, 0]);
  for (const [index, { bytes, flags = 0 }] of entries.entries()) {
    words.set([index, bytes, 0, flags], HEADER_WORDS + index * ENTRY_WORDS);
  }
  return words;
}

test("entriesFault() takes entries whose sizes add up to the message", () => {
  const entries = [{ bytes: 3 }, { bytes: 0 }, { bytes: 4 }];
  assert.is(entriesFault(header(entries), HEADER_BYTES + 7), undefined);
});

test("entriesFault() takes a full message", () => {
  const bytes = PAYLOAD_BYTES_MAX / BATCH_CHAINS_MAX;
  const entries = Array.from({ length: BATCH_CHAINS_MAX }, () => ({ bytes }));
  assert.is(entriesFault(header(entries), HEADER_BYTES + PAYLOAD_BYTES_MAX), undefined);
});

test("entriesFault() refuses a count of 0 and above BATCH_CHAINS_MAX", () => {
  for (const count of [0, BATCH_CHAINS_MAX + 1, 0xffff_ffff]) {
    assert.is(entriesFault(header([], count), HEADER_BYTES), `a count of ${count}`);
  }
});

test("entriesFault() refuses a message longer or shorter than its entries say", () => {
  for (const extra of [-5, -1, 1]) {
    assert.match(entriesFault(header([{ bytes: 5 }]), HEADER_BYTES + 5 + extra)!, /entries say 5/);
  }
});

test("entriesFault() refuses sizes whose 32-bit sum would be right", () => {
  const entries = [{ bytes: 0xffff_ffff }, { bytes: 9 }];
  assert.match(entriesFault(header(entries), HEADER_BYTES + 8)!, /a payload of 4294967304 bytes/);
});

test("entriesFault() refuses more payload than a message may have", () => {
  const bytes = PAYLOAD_BYTES_MAX + 1;
  assert.match(entriesFault(header([{ bytes }]), HEADER_BYTES + bytes)!, /a payload of/);
});

test("entriesFault() refuses flags that it does not know", () => {
  for (const flags of [2, 3, 0x8000_0000]) {
    assert.match(entriesFault(header([{ bytes: 1, flags }]), HEADER_BYTES + 1)!, /flags 0x/);
  }
});

test("entriesFault() takes a piece alone, refuses one among others and an empty one", () => {
  const piece = { bytes: 8, flags: MORE };
  assert.is(entriesFault(header([piece]), HEADER_BYTES + 8), undefined);
  for (const entries of [
    [piece, { bytes: 0 }],
    [{ bytes: 0 }, piece],
  ]) {
    assert.match(entriesFault(header(entries), HEADER_BYTES + 8)!, /not alone/);
  }
  assert.match(entriesFault(header([{ bytes: 0, flags: MORE }]), HEADER_BYTES)!, /an empty piece/);
});

test("printable() leaves text alone, and takes what terminals and logs act upon out of it", () => {
  const encode = (text: string) => new TextEncoder().encode(text);
  assert.is(printable(encode("grüße, 世界 🙂")), "grüße, 世界 🙂");
  assert.is(printable(encode("a\x1b[2Jb")), "a\ufffd[2Jb");
  assert.is(printable(encode("a\nb\r\0\x7f\x9b")), "a\ufffdb\ufffd\ufffd\ufffd\ufffd");
  assert.is(printable(encode("a\u202eb\u2028c\u2066d")), "a\ufffdb\ufffdc\ufffdd");
  assert.is(printable(Uint8Array.from([0x61, 0xff, 0xc0])), "a\ufffd\ufffd");
});

test.run();
