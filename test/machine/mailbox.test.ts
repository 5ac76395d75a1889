import { Worker } from "node:worker_threads";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { EventFd } from "../../host/machine/eventfd.js";
import { SharedLock } from "../../host/machine/lock.js";
import { type BusAccess, MailboxServer, MEMORY, PORT } from "../../host/machine/mailbox.js";
import { Shared } from "../../host/machine/shared.js";

const MAILBOX = new URL("../../host/machine/mailbox.js", import.meta.url).href;
const SHARED = new URL("../../host/machine/shared.js", import.meta.url).href;
const EVENTFD = new URL("../../host/machine/eventfd.js", import.meta.url).href;
const LOCK = new URL("../../host/machine/lock.js", import.meta.url).href;

/** A thread that runs `body`, an async function's text over `data` and `load`. */
function thread(body: string, data: object): { result: Promise<unknown> } {
  const source = `
    const { parentPort, workerData: data } = require("node:worker_threads");
    (async () => parentPort.postMessage(await (async () => { ${body} })()))();`;
  const worker = new Worker(source, { eval: true, workerData: data });
  const result = new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  return { result };
}

/** Beyond 32 bits. */
const ADDRESS = 0xf_d000_0100;

const ASK = `
  const { MailboxClient } = await import(${JSON.stringify(MAILBOX)});
  const { Shared } = await import(${JSON.stringify(SHARED)});
  const { EventFd } = await import(${JSON.stringify(EVENTFD)});
  const wake = new EventFd(data.wakeFd);
  const client = new MailboxClient(new Shared(data.shared), { cpu: data.cpu, wake });
  return client.access(data.access);`;

test("MailboxClient.access() blocks until the server answers, and returns the value", async () => {
  const shared = Shared.create(2);
  const server = new MailboxServer([shared.mailbox(0), shared.mailbox(1)]);
  const wakeFd = EventFd.create().fd;
  const access = { space: PORT, address: 0x70, bytes: 4, isWrite: true, value: 0xffffffff };
  const { result } = thread(ASK, { shared: shared.buffer, wakeFd, cpu: 1, access });
  const seen: BusAccess[] = [];
  const serve = setInterval(() => {
    server.serve((asked) => {
      seen.push(asked);
      return 0x87654321;
    });
  }, 1);
  assert.is(await result, 0x87654321);
  clearInterval(serve);
  assert.equal(seen, [access]);
});

test("MailboxServer.serve() lets an access wait, and serves the others meanwhile", async () => {
  const shared = Shared.create(2);
  const server = new MailboxServer([shared.mailbox(0), shared.mailbox(1)]);
  const wakeFd = EventFd.create().fd;
  const ask = (cpu: number) => {
    const access = {
      space: MEMORY,
      address: ADDRESS + cpu,
      bytes: 4,
      isWrite: false,
      value: 0,
    };
    return thread(ASK, { shared: shared.buffer, wakeFd, cpu, access }).result;
  };
  const answers: (number | undefined)[] = [undefined, 21];
  const asked = [0, 0];
  let waiting = false;
  const serve = setInterval(() => {
    waiting = server.serve(({ address }) => {
      const cpu = address - ADDRESS;
      asked[cpu]! += 1;
      return answers[cpu];
    });
  }, 1);
  const late = ask(0);
  assert.is(await ask(1), 21);
  while (asked[0]! < 3) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.ok(waiting);
  answers[0] = 42;
  assert.is(await late, 42);
  assert.not(waiting);
  assert.is(asked[1], 1);
  clearInterval(serve);
});

test("MailboxClient.access() gives up when the VM stops: the server may be gone", async () => {
  const shared = Shared.create(1);
  const wakeFd = EventFd.create().fd;
  const access = { space: MEMORY, address: 0, bytes: 4, isWrite: false, value: 0 };
  const { result } = thread(ASK, { shared: shared.buffer, wakeFd, cpu: 0, access });
  setTimeout(() => shared.stop(), 20);
  assert.is(await result, 0);
});

const COUNT = `
  const { SharedLock } = await import(${JSON.stringify(LOCK)});
  const lock = new SharedLock(data.words, 0);
  for (let i = 0; i < 20000; i++) lock.run(() => { data.words[1] = data.words[1] + 1; });
  return 0;`;

test("SharedLock lets one thread in at a time", async () => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  await Promise.all([1, 2, 3].map(() => thread(COUNT, { words }).result));
  assert.is(words[1], 60_000);
});

test("SharedLock is free again after a body that throws", () => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const lock = new SharedLock(words, 0);
  const fail = () => {
    throw new Error("on purpose");
  };
  assert.throws(() => lock.run(fail), /on purpose/);
  assert.is(
    lock.run(() => 7),
    7,
  );
});

test.run();
