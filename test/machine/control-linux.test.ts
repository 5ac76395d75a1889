// A stock kernel under control: halted for longer than its watchdog has patience, let go on, and
// asked to shut down by its power button.

import { test } from "uvu";
import * as assert from "uvu/assert";
import { note, skip } from "../support/skip.js";
import { type Job, machineUnavailable, type Place, runInMachine } from "./machine.js";
import { withoutSigns } from "./tries.js";

/** Linux takes a CPU that does nothing for 20 s for stuck. */
const PAUSE_S = 30;
/** Several times what it takes on a busy machine, the pause included. */
const TIMEOUT_MS = 400_000;

/** What somebody types at a shell of the host; the guest is ready when it waits for the button. */
const SCRIPT = `
cd /tmp
checkout=$1 node=$0 kernel=$2 initrd=$3
bulkhead() { "$node" "$checkout/dist/bundle/cli/main.js" "$@"; }
bulkhead run -k "$kernel" -i "$initrd" -m 256M -c 2 --rng --name linux \\
  -p "console=ttyS0 quiet oops=panic panic=-1 test.bytes=4096 test.button" >serial.txt 2>&1 &
vm=$!
until grep -q 'guest: waits' serial.txt; do
  kill -0 $vm || { cat serial.txt; exit 1; }
  sleep 1
done
bulkhead pause linux
bulkhead list
sleep ${PAUSE_S}
bulkhead resume linux
bulkhead stat linux
bulkhead stop linux
wait $vm
echo "exit $?"
cat serial.txt
`;

const job: Job = {
  command: ({ node, checkout, kernel, initrd }: Place) => [
    ...["sh", "-c", SCRIPT, node, checkout, kernel, initrd],
  ],
  timeoutMs: TIMEOUT_MS,
};

test("a stock kernel is halted, goes on, and shuts down when its button is pressed", async () => {
  const reason = machineUnavailable();
  if (reason !== undefined) return skip(reason);
  const [result] = await runInMachine([job]);
  const text = withoutSigns(result!.output).replaceAll("\r", "");
  note(
    text
      .split("\n")
      .filter((line) => /^(guest|linux|rng0|exit)/.test(line))
      .join("\n"),
  );
  assert.match(text, /^linux: paused$/m);
  assert.match(text, /^linux +\d+ +paused +2 +256M/m);
  assert.match(text, /^linux: running$/m);
  assert.match(text, /^rng0 +running +[1-9]/m);
  assert.match(text, /^linux: shut down$/m);
  assert.match(text, /^guest: waits, button +0 +EN +enabled/m);
  assert.match(text, /^guest: pressed, button +1 /m);
  assert.match(text, /^guest: lockups 0$/m);
  assert.match(text, /^exit 0$/m);
});

test.run();
