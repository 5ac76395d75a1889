// Structs and flags of sockets against the installed headers, and what waits on a socket.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { close, socketpair, syscall } from "../../host/ffi/libc.js";
import { Mapping } from "../../host/ffi/memory.js";
import { IOVEC, MSG, MSGHDR, SOL_SOCKET, waitingBytes } from "../../host/ffi/socket.js";
import { claimsOf, headerValues, missingCompiler } from "../support/headers.js";
import { skip } from "../support/skip.js";

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SENDTO = 44;

test("structs and flags are what the C headers say", () => {
  const reason = missingCompiler();
  if (reason !== undefined) return skip(reason);
  const flags = Object.entries({ ...MSG, SOL_SOCKET }).map(([name, value]): [string, bigint] => {
    return [name, BigInt(value)];
  });
  const claims = new Map([...claimsOf(MSGHDR), ...claimsOf(IOVEC), ...flags]);
  const values = headerValues(["sys/socket.h", "sys/uio.h"], [...claims.keys()]);
  for (const [expression, claim] of claims) assert.is(values.get(expression), claim, expression);
});

test("waitingBytes() tells a message, whole and left there, from nothing and from nobody", () => {
  const memory = Mapping.anonymous(4096);
  assert.is(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, memory.address), 0);
  const [ours, theirs] = [memory.words[0]!, memory.words[1]!];
  assert.is(waitingBytes(ours), -1);
  syscall(SENDTO, theirs, memory.address, 1000, 0, 0, 0);
  assert.is(waitingBytes(ours), 1000);
  assert.is(waitingBytes(ours), 1000);
  close(theirs);
  assert.is(waitingBytes(ours), 1000);
  syscall(0, ours, memory.address, 4096, 0, 0, 0); // read(2)
  assert.is(waitingBytes(ours), 0);
  close(ours);
  memory.close();
});

test.run();
