// A terminal without a guest, for the test that runs it in a pseudo-terminal: says what it
// receives. The argument names the way out.

import { spawnSync } from "node:child_process";
import { Terminal } from "../../host/cli/terminal.js";

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** `stty` of the terminal that this process is on: `-icanon` is in it while the terminal is raw. */
function mode(): string {
  const { stdout } = spawnSync("stty", ["-a"], { stdio: ["inherit", "pipe", "ignore"] });
  return stdout.toString().includes("-icanon") ? "raw" : "cooked";
}

const WAYS_OUT: Readonly<Record<string, () => void>> = {
  close: () => terminal.close(),
  exit: () => process.exit(7),
  throw: () => {
    throw new Error("as if by mistake");
  },
  signal: () => process.kill(process.pid, "SIGTERM"),
  stop: () => {
    process.once("SIGCONT", () => {
      say(`continued ${mode()}`);
      terminal.close();
    });
    process.kill(process.pid, "SIGTSTP");
  },
};

process.on("SIGTERM", () => process.exit(143));

const terminal = Terminal.open({
  input: (bytes) => say(`input ${Buffer.from(bytes).toString("hex")}`),
  quit: () => WAYS_OUT[process.argv[2] ?? "close"]?.(),
});
say(`open ${mode()}`);
