// A device for tests whose config space is all that it has: the driver writes a selector and reads
// what the device makes of it. test/guest/config.c is its driver.

import { writeFileSync } from "node:fs";
import { compileDevice } from "../../host/author/device.js";

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
      return offset == 0;
    }
    serve(queue: u32, chain: Chain): void {}
  }
  register(new Selector());`;

/** Compiles the device to `file`. */
export async function writeSelector(file: string): Promise<void> {
  const { module } = await compileDevice("/nowhere/selector.ts", { source: SELECTOR });
  writeFileSync(file, module);
}
