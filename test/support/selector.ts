// A device for tests whose config space is all that it has: the driver writes a selector and reads
// what the device makes of it. test/guest/config.c is its driver.

import { writeFileSync } from "node:fs";
import { compileDevice } from "../../host/author/device.js";

/** A selector that the device does not survive. */
export const DEADLY = 100;

const SELECTOR = `
  import { Chain, configSpace, Device, register } from "bulkhead/sdk";

  @unmanaged
  class SelectorConfig {
    select: u32;
    answer: u32 = 1;
    mirror: u64 = 0xffffffff00000000;
  }

  const config = configSpace<SelectorConfig>();

  class Selector extends Device {
    constructor() { super(42, [8]); }
    configure(offset: u32, bytes: u32): bool {
      config.answer = 3 * config.select + 1;
      config.mirror = (<u64>~config.select) << 32 | config.select;
      assert(!frail || config.select != ${DEADLY});
      return offset == 0;
    }
    serve(queue: u32, chain: Chain): void {}
  }
  register(new Selector());`;

/** Compiles the device to `file`; a frail one dies of DEADLY. */
export async function writeSelector(file: string, { frail = false } = {}): Promise<void> {
  const source = `${SELECTOR}\nconst frail = ${frail};`;
  const { module } = await compileDevice("/nowhere/selector.ts", { source });
  writeFileSync(file, module);
}
