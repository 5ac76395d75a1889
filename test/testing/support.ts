// Devices for the tests of host/testing.

import { compileDevice } from "../../host/author/device.js";

/** Compiles a device whose serve() has the body `serve`. */
export async function compiled(serve: string, { top = "", members = "", features = "0" } = {}) {
  const source = `
    import { capability, Chain, Device, log, logLine, option } from "bulkhead/sdk";
    import { register, Rights } from "bulkhead/sdk";
    ${top}
    class Test extends Device {
      constructor() { super(42, [8, 4], ${features}); }
      ${members}
      serve(queue: u32, chain: Chain): void { ${serve} }
    }
    register(new Test());`;
  return (await compileDevice("/nowhere/test.ts", { source })).module;
}

/** Text in UTF-8. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
