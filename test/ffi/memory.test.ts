import { test } from "uvu";
import * as assert from "uvu/assert";
import { VmmError } from "../../host/errors.js";
import { checked, close, errno, memcpy, memfd_create, open } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";

test("Mapping.anonymous() is zeroed, writable and as large as whole pages", () => {
  const mapping = Mapping.anonymous(5000);
  assert.is(mapping.bytes, 8192);
  assert.is(mapping.view.getUint32(4996, true), 0);
  mapping.view.setUint32(4096, 0xcafe, true);
  assert.is(mapping.words[1024], 0xcafe);
  mapping.close();
});

test("two mappings are apart, and memcpy() moves between their addresses", () => {
  const [from, to] = [Mapping.anonymous(16), Mapping.anonymous(16)];
  from.view.setBigUint64(0, 0x0123456789abcdefn);
  memcpy(to.address, from.address, 8);
  assert.is(to.view.getBigUint64(0), 0x0123456789abcdefn);
  assert.is(from.view.getBigUint64(8), 0n);
  from.close();
  to.close();
});

test("Mapping.shared() of an unusable descriptor says what failed", () => {
  const fd = checked(memfd_create("test", 1), "memfd_create", "Cannot test");
  close(fd);
  assert.throws(
    () => Mapping.shared(fd, 4096),
    (error: unknown) =>
      error instanceof VmmError && error.errno === 9 && /EBADF/.test(error.message),
  );
});

test("errno() is that of the last failed call", () => {
  assert.is(open("/nonexistent", 0, 0), -1);
  assert.is(errno(), 2);
});

test.run();
