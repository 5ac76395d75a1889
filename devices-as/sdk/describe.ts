// The static description that the build turns into the module's manifest. The same layout is read
// by host/author/manifest.ts; all fields are little-endian:
//
//   0 virtio id │ 4 queue sizes: address │ 8 queue count │ 12 capability count │ 16 features (u64)
//   24 capabilities: address → name: address │ kind │ rights │ required  (16 bytes each)
//   28 bytes of config space │ 32 options: address → name: address │ type (8 bytes each)
//   36 option count
//
// A name is UTF-16, its length in bytes is the word before it.

import { declarationCount, declarations } from "./capability";
import { configSize } from "./config";
import { Device } from "./device";
import { optionCount, optionDeclarations } from "./option";

@unmanaged
class Description {
  virtioId: u32 = 0;
  queueSizes: usize = 0;
  queueCount: u32 = 0;
  capabilityCount: u32 = 0;
  features: u64 = 0;
  capabilities: usize = 0;
  configBytes: u32 = 0;
  options: usize = 0;
  optionCount: u32 = 0;
}

const DESCRIPTION: usize = memory.data(offsetof<Description>(), 8);

/** Fills in the description of `device` and returns its address. */
export function describe(device: Device): usize {
  const at = changetype<Description>(DESCRIPTION);
  at.virtioId = device.virtioId;
  at.queueSizes = changetype<usize>(device.queueSizes);
  at.queueCount = device.queueSizes.length;
  at.capabilityCount = declarationCount;
  at.features = device.features;
  at.capabilities = declarations;
  at.configBytes = configSize;
  at.options = optionDeclarations;
  at.optionCount = optionCount;
  return DESCRIPTION;
}
