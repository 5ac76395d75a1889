// A stock Debian on a raw disk: it boots over PCI to a login prompt, finds after a reboot what was
// written before, also over mmio, and powers off.

import { testBoots } from "./distribution.js";

testBoots(["pci:disk.img:write:reboot", "mmio:disk.img:check:poweroff"]);
