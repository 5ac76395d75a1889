// Which jobs of an emulated host run again. The emulator has faults of its own, and they must not
// fail a test of ours; nor may a fault of ours hide behind them. So a try is repeated for a named
// symptom only, and one that says anything against our devices is final.
//
// The known fault: QEMU's helper_vmrun() leaves the vector of an interrupt that KVM injects in
// `exception_index` after it was delivered. When another thread stops the virtual CPU in that
// moment, the interrupt is delivered again, at once and with interrupts off. One from user mode
// then runs with the user's GS before `swapgs`, and the guest's kernel faults on its first per-CPU
// variable until its entry stack is used up.
//
// A hang may be a lost wake-up of ours. Then the guest's kernel lives, and says so every few
// seconds; when it has fallen silent as well, by a timer and a console that need none of our
// threads to be woken, it is the virtual CPU that hangs. As the whole host does, too, at times.

/** How a job ended. */
export interface JobResult {
  /** Exit status; 137 when the time was over. */
  status: number;
  /** What it wrote to stdout and stderr. */
  output: string;
  seconds: number;
}

/** Exit status of a job whose time was over: timeout(1) killed it. */
const KILLED = 137;

/** Tries of one job whose guest dies of the emulator: there is time for that many. */
export const GUEST_TRIES_MAX = 6;

/** Emulated hosts for one set of jobs: the first, and those that repeat something. */
export const HOSTS_MAX = 8;

/** What bulkhead, or the guest's drivers, say when a device or its driver is at fault. */
const COMPLAINTS = [
  /driver bug: .*/,
  /device bug: .*/,
  /\w+: (?:gone|killed): .*/,
  /Internal error, this is a bug in Bulkhead/,
  // In a kernel's log or in the call trace of an oops, but for the list of loaded modules.
  /^(?!guest: |.*Modules linked in: ).*\b(?:virtio|vring|virtqueue|hwrng|vp_|vm_interrupt).*/m,
];

const OOPS = [
  "BUG: unable to handle [^\\n]*",
  "BUG: kernel NULL pointer dereference[^\\n]*",
  "BUG: \\S+ stack guard page was hit[^\\n]*",
  "general protection fault[^\\n]*",
  "(?:double fault|invalid opcode|int3|divide error|Oops): [0-9a-f]{4}[^\\n]*",
];

/** Ends of a guest that the emulator causes, by name. */
const SYMPTOMS: [name: string, pattern: RegExp][] = [
  ["KVM internal error", /KVM_EXIT_(?:INTERNAL_ERROR|FAIL_ENTRY)\b.*/],
  ["triple fault", /the guest crashed: triple fault/],
  ["kernel oops in the guest", new RegExp(`^\\[ *\\d+\\.\\d+\\] (?:${OOPS.join("|")})`, "m")],
];

/** What `output` says against a device, its driver or the VMM. */
export function complaint(output: string): string | undefined {
  for (const pattern of COMPLAINTS) {
    const found = pattern.exec(output);
    if (found) return found[0].trim();
  }
  return undefined;
}

/** Seconds between two signs of life of a guest (guest-init.sh), and the sign itself. */
const ALIVE_SECONDS = 3;
const ALIVE = /guest: alive/g;

/** A sign with all that belongs to it: the kernel writes it whole, with the end of its line. */
const SIGN = /\[ *\d+\.\d+\] guest: alive[^\r\n]*\r*\n/g;

/** What a guest says, without its signs of life, which fall into the middle of other lines. */
export function withoutSigns(output: string): string {
  return output.replaceAll(SIGN, "");
}

/** Whether a guest that was killed for its time said nothing for at least half of that. */
function fellSilent({ status, output, seconds }: JobResult): boolean {
  const isUnderWay = output.includes("guest: rng_current") && !output.includes("guest: done");
  const alive = (output.match(ALIVE)?.length ?? 0) * ALIVE_SECONDS;
  return status === KILLED && isUnderWay && alive < seconds / 2;
}

/** The emulator's fault that ended this try, if it was one. */
export function emulatorSymptom(result: JobResult): string | undefined {
  const { output } = result;
  if (complaint(output) !== undefined) return undefined;
  if (fellSilent(result)) return "the guest's kernel hangs: it gives no sign of life";
  for (const [name, pattern] of SYMPTOMS) {
    const found = pattern.exec(output);
    if (found) return `${name}: ${found[0].trim()}`;
  }
  return undefined;
}

/** What one emulated host got done: JobReader fills it. */
export interface HostReport {
  results: ReadonlyMap<number, JobResult>;
  /** The job that ran when the host vanished or hung. */
  unfinished: { index: number; output: string } | undefined;
}

/** Keeps the tries of a set of jobs until each has a result that counts. */
export class Tries {
  /** Hosts that have reported. */
  hosts = 0;
  readonly #count: number;
  readonly #isWrong: (index: number, output: string) => boolean;
  readonly #results = new Map<number, JobResult>();
  /** The last try of each job that was ended by the emulator. */
  readonly #spoilt = new Map<number, { tries: number; result: JobResult }>();

  /**
   * @param count jobs, which have the indexes 0 to `count` - 1
   * @param isWrong whether a job's output, however it ended, shows a wrong result: then it counts
   */
  constructor(count: number, isWrong: (index: number, output: string) => boolean) {
    this.#count = count;
    this.#isWrong = isWrong;
  }

  /** Indexes of the jobs for the next host; none when there is nothing left to try. */
  left(): number[] {
    if (this.hosts >= HOSTS_MAX) return [];
    return [...Array(this.#count).keys()].filter((index) => !this.#results.has(index));
  }

  /** Takes what a host got done; returns what the test log should say of it. */
  take({ results, unfinished }: HostReport): string[] {
    this.hosts++;
    const notes: string[] = [];
    for (const [index, result] of results) {
      const symptom = this.#isWrong(index, result.output) ? undefined : emulatorSymptom(result);
      const tries = (this.#spoilt.get(index)?.tries ?? 0) + 1;
      if (symptom === undefined || tries >= GUEST_TRIES_MAX) this.#results.set(index, result);
      else {
        this.#spoilt.set(index, { tries, result });
        notes.push(`job ${index}, try ${tries} of ${GUEST_TRIES_MAX}: ${symptom}`, result.output);
      }
    }
    if (unfinished !== undefined) notes.push(...this.#takeUnfinished(unfinished));
    return notes;
  }

  /** The result that counts; undefined for a job that never ended. */
  result(index: number): JobResult | undefined {
    return this.#results.get(index) ?? this.#spoilt.get(index)?.result;
  }

  #takeUnfinished({ index, output }: { index: number; output: string }): string[] {
    const fault = complaint(output);
    if (fault === undefined && !this.#isWrong(index, output)) {
      return [`job ${index} was running on it:`, output];
    }
    this.#results.set(index, { status: 137, output, seconds: 0 });
    return [`job ${index} had failed before: ${fault ?? "a wrong result"}`];
  }
}
