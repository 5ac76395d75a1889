// Which legacy part answers at which I/O port. The parts are few, so this is a switch; a port that
// nobody owns floats high, as on an ISA bus.

import {
  ACPI_PM1A_CNT_PORT,
  ACPI_PM1A_EVT_PORT,
  ACPI_S5_SLP_TYP,
  CMOS,
  COM1,
  DEBUG_EXIT_PORT,
  I8042,
} from "../layout.js";
import { cmosRegister } from "./cmos.js";
import type { Pm1 } from "./pm1.js";
import type { Serial } from "./serial.js";

const PM1_CNT_SCI_EN = 0x0001;
const PM1_CNT_SLP_EN = 0x2000;
const PM1_CNT_SLP_TYP_SHIFT = 10;

/** What a port access may end the machine with. */
export type PortExit = { reason: "poweroff" } | { reason: "reboot" } | DebugExit;
type DebugExit = { reason: "debug-exit"; value: number };

export interface PortOptions {
  pm1: Pm1;
  debugExit: boolean;
}

/** The I/O ports as one vCPU sees them. */
export class Ports {
  readonly #serial: Serial;
  readonly #pm1: Pm1;
  readonly #debugExit: boolean;
  #cmosIndex = 0;

  constructor(serial: Serial, options: PortOptions) {
    this.#serial = serial;
    this.#pm1 = options.pm1;
    this.#debugExit = options.debugExit;
  }

  /** Reads `bytes` (1, 2 or 4) from `port`. */
  in(port: number, bytes: number): number {
    if (port >= COM1.port && port < COM1.port + COM1.bytes) {
      return this.#serial.read(port - COM1.port);
    }
    switch (port) {
      case CMOS.port + 1:
        return cmosRegister(this.#cmosIndex, new Date());
      case I8042.commandPort:
      case I8042.dataPort:
        return 0; // never busy, nothing to read: enough for a reset through it
      case ACPI_PM1A_EVT_PORT:
        return this.#pm1.status;
      case ACPI_PM1A_EVT_PORT + 2:
        return this.#pm1.enable;
      case ACPI_PM1A_CNT_PORT:
        return PM1_CNT_SCI_EN;
      default:
        return bytes === 4 ? 0xffffffff : bytes === 2 ? 0xffff : 0xff;
    }
  }

  /** Writes `value` to `port`; a result means that the machine ends. */
  out(port: number, value: number): PortExit | undefined {
    if (port >= COM1.port && port < COM1.port + COM1.bytes) {
      this.#serial.write(port - COM1.port, value);
      return undefined;
    }
    switch (port) {
      case CMOS.port:
        this.#cmosIndex = value;
        return undefined;
      case I8042.commandPort:
        return (value & 0xff) === I8042.resetCommand ? { reason: "reboot" } : undefined;
      case ACPI_PM1A_EVT_PORT:
        this.#pm1.clear(value & 0xffff);
        return undefined;
      case ACPI_PM1A_EVT_PORT + 2:
        this.#pm1.enable = value;
        return undefined;
      case ACPI_PM1A_CNT_PORT:
        return isSoftOff(value) ? { reason: "poweroff" } : undefined;
      case DEBUG_EXIT_PORT:
        return this.#debugExit ? { reason: "debug-exit", value } : undefined;
      default:
        return undefined;
    }
  }
}

/** SLP_EN with the sleep type that \_S5 gives (ACPI 6.5 §4.8.3.2.1). */
function isSoftOff(value: number): boolean {
  const type = (value >> PM1_CNT_SLP_TYP_SHIFT) & 7;
  return (value & PM1_CNT_SLP_EN) !== 0 && type === ACPI_S5_SLP_TYP;
}
