// The user's terminal as the guest's console: between the two is a pseudo-terminal, whose other end
// is all that the device gets. So Ctrl-A x ends the guest whatever the device does, the terminal is
// put back, and a device that outlived its VM would write to nobody.

import type { ReadStream } from "node:tty";
import type { DeviceConfig } from "../machine/config.js";
import { Pty, terminalSizeOf } from "../machine/pty.js";
import type { Vm } from "../machine/vm.js";
import { STDOUT, say } from "./output.js";

/** How often keys that the guest has no room for are offered again. */
const RETRY_MS = 10;
const STDIN = 0;
const NEWLINE = 0x0a;

export class ConsoleTerminal {
  readonly #id: string;
  readonly #pty: Pty;
  #reader: ReadStream | undefined;
  #isClosed = false;
  #isMidLine = false;
  #wake = () => {};
  readonly #onResize = () => {
    this.#measure();
    this.#wake();
  };

  private constructor(id: string, pty: Pty) {
    this.#id = id;
    this.#pty = pty;
    this.#measure();
  }

  /** Grants `device` its end of a new pseudo-terminal. */
  static open(device: DeviceConfig): ConsoleTerminal {
    const pty = Pty.open();
    device.grants.tty = { kind: "tty", what: pty.path, rights: ["read", "write"] };
    return new ConsoleTerminal(device.id, pty);
  }

  /** Shows what the guest writes from now on, and follows the size of the terminal. */
  connect(vm: Vm): void {
    this.#wake = () => vm.wakeDevice(this.#id);
    process.on("SIGWINCH", this.#onResize);
    this.#onResize(); // it may have changed while the devices started
    this.#reader = this.#pty.reader();
    this.#reader.on("data", (bytes: Uint8Array) => this.#show(bytes));
  }

  #show(bytes: Uint8Array): void {
    this.#isMidLine = bytes.at(-1) !== NEWLINE;
    say(STDOUT, bytes);
  }

  /** Whether what was shown is in the middle of a line, which counts as ended from now on. */
  breakLine(): boolean {
    const isMidLine = this.#isMidLine;
    this.#isMidLine = false;
    return isMidLine;
  }

  #measure(): void {
    const size = terminalSizeOf(STDIN) ?? terminalSizeOf(STDOUT);
    if (size !== undefined) this.#pty.resize(size);
  }

  /** Keys for the guest. Resolves when it has room for the next ones. */
  async input(bytes: Uint8Array): Promise<void> {
    let done = 0;
    for (;;) {
      if (this.#isClosed) return;
      done += this.#pty.write(bytes.subarray(done));
      if (done === bytes.length) return;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Shows what the guest wrote last, and lets go. */
  close(): void {
    this.#isClosed = true;
    process.off("SIGWINCH", this.#onResize);
    this.#reader?.destroy();
    this.#pty.drain((bytes) => this.#show(bytes));
    this.#pty.close();
  }
}
