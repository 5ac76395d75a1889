// A VMM that starts one attacker, lets it go on, prints its pid, and waits to be killed.

import { Attacker, NOBODY } from "./attacker.js";

const attacker = new Attacker({ deed: process.argv[2] ?? "", context: NOBODY });
await attacker.ready();
attacker.go();
console.log(attacker.process.pid);
setInterval(() => {}, 1000);
