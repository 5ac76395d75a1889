// The same Debian on a qcow2 disk, which grows as it is written to.

import { testBoots } from "./distribution.js";

testBoots(["pci:disk.qcow2:write:reboot", "pci:disk.qcow2:check:poweroff"]);
