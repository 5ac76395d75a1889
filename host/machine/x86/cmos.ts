// The CMOS clock (MC146818) as Linux reads it once at boot: the time of day, nothing else.

const INDEX_MASK = 0x7f;
const REG_SECONDS = 0x00;
const REG_MINUTES = 0x02;
const REG_HOURS = 0x04;
const REG_WEEKDAY = 0x06;
const REG_DAY = 0x07;
const REG_MONTH = 0x08;
const REG_YEAR = 0x09;
const REG_A = 0x0a;
const REG_B = 0x0b;
const REG_D = 0x0d;
const REG_CENTURY = 0x32;
/** Oscillator on, 1024 Hz, no update in progress: each read is consistent in itself. */
const A_RUNNING = 0x26;
/** 24-hour clock, values in BCD. */
const B_24_HOUR = 0x02;
/** The battery is good. */
const D_VALID = 0x80;

function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}

/** Register `index` at time `now`, in UTC. */
export function cmosRegister(index: number, now: Date): number {
  switch (index & INDEX_MASK) {
    case REG_SECONDS:
      return bcd(now.getUTCSeconds());
    case REG_MINUTES:
      return bcd(now.getUTCMinutes());
    case REG_HOURS:
      return bcd(now.getUTCHours());
    case REG_WEEKDAY:
      return bcd(now.getUTCDay() + 1);
    case REG_DAY:
      return bcd(now.getUTCDate());
    case REG_MONTH:
      return bcd(now.getUTCMonth() + 1);
    case REG_YEAR:
      return bcd(now.getUTCFullYear() % 100);
    case REG_CENTURY:
      return bcd(Math.floor(now.getUTCFullYear() / 100));
    case REG_A:
      return A_RUNNING;
    case REG_B:
      return B_24_HOUR;
    case REG_D:
      return D_VALID;
    default:
      return 0;
  }
}
