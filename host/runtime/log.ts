// What a module writes to descriptor 2: lines for the VMM's log. No grant is needed, so the limits
// are here, before anything is sent: a module that writes in a loop must not keep the VMM busy.

import { LineLog } from "../wire/line-log.js";
import { LOG_BYTES_MAX } from "../wire/message.js";

/** Bytes that one call takes at most: a larger one is cut short, which every caller must expect. */
export const LOG_WRITE_BYTES_MAX = 4096;

/** What a line may have of the module's, so that what is said of dropped ones fits behind it. */
const LINE_BYTES_MAX = LOG_BYTES_MAX - 64;

const LINE_FEED = 0x0a;

export class ModuleLog {
  readonly #lines: LineLog;

  /** @param say sends one line, whatever is in it: the VMM makes it printable */
  constructor(say: (line: string) => void) {
    this.#lines = new LineLog(say);
  }

  /** Takes whole lines, the last one with or without a line feed; empty ones say nothing. */
  write(bytes: Uint8Array): void {
    for (let start = 0; start < bytes.length; ) {
      const feed = bytes.indexOf(LINE_FEED, start);
      const end = feed < 0 ? bytes.length : feed;
      const line = bytes.subarray(start, Math.min(end, start + LINE_BYTES_MAX));
      if (line.length > 0) this.#lines.line(new TextDecoder().decode(line));
      start = end + 1;
    }
  }
}
