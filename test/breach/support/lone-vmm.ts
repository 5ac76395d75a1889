// A VMM that starts one attacker, lets it go on, prints its pid, and waits to be killed. Arguments:
// the deed, and options of the attacker as JSON.

import { Attacker, NOBODY } from "./attacker.js";

const [deed = "", options = "{}"] = process.argv.slice(2);
const attacker = new Attacker({ deed, context: NOBODY }, JSON.parse(options));
await attacker.ready();
attacker.go();
console.log(attacker.process.pid);
setInterval(() => {}, 1000);
