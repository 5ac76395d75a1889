// What a verb of the command line is. One row of one table (verbs.ts) is the source of its parser,
// its --help, its part of the reference and its completion.

/** What a shell completes a value with; words are known ones. */
export type Values =
  | "file"
  | "directory"
  | "device"
  | "grant"
  | "disk"
  | "verb"
  | "vm"
  | readonly string[];

/** One option of a verb. */
export interface OptionRow {
  /** As commander reads it: `-c, --cpus <n>`. */
  flags: string;
  /** Half a line, for --help. */
  summary: string;
  /** What it is when it is not given. */
  fallback?: string;
  /** It may be given several times; the verb gets a list. */
  repeats?: true;
  /** It adds a device, in the order of the command line: its --device. */
  device?: (value: string) => string;
  /** lkvm has it, and Bulkhead has no such device: what it would be. */
  missing?: string;
  /** In the reference alone: --help has 24 lines. */
  rare?: true;
  values?: Values;
  /** Sentences for the reference. */
  details?: string;
}

/** Both forms of an option: `-c`, `--cpus`. */
export function namesOf({ flags }: OptionRow): string[] {
  return flags.match(/(?<![\w-])--?[\w-]+/g) ?? [];
}

export function takesValue({ flags }: OptionRow): boolean {
  return /[<[]/.test(flags);
}

/** Options that can be used. */
export function offered({ options }: Verb): OptionRow[] {
  return options.filter(({ missing }) => missing === undefined);
}

export interface ArgumentRow {
  /** As commander reads it: `<FILE.ts...>`, `[KERNEL]`. */
  form: string;
  summary: string;
  values?: Values;
}

/** A command line that is shown: what is behind `bulkhead`, and what it does. */
export interface Example {
  line: string;
  what: string;
}

export interface Verb {
  name: string;
  /** Half a line, for the list of verbs. */
  summary: string;
  /** A sentence or two. */
  description: string;
  argument?: ArgumentRow;
  options: readonly OptionRow[];
  /** The first is shown in --help. */
  examples: readonly [Example, ...Example[]];
  /** Paragraphs for the reference. */
  details?: readonly string[];
  /** Does it, with the values of argument and options; returns the exit status. */
  action: (argument: never, options: never) => Promise<number>;
}

/** A verb of which the types of argument and options are known. */
interface TypedVerb<A, O> extends Omit<Verb, "action"> {
  action: (argument: A, options: O) => Promise<number>;
}

/** A row of the table. Whatever its action imports is loaded when it is called, and only then. */
export function verb<A, O>(row: TypedVerb<A, O>): Verb {
  return row;
}

export const JSON_LINES: OptionRow = {
  flags: "--json",
  summary: "print one JSON object a line",
};

/** How devices are confined: the options that `run` and `demo` share. */
export const CONFINEMENT: readonly OptionRow[] = [
  {
    flags: "--isolation <where>",
    summary: "run devices in a process or inline",
    fallback: "process",
    values: ["process", "inline"],
    details: "An inline device runs inside the VMM: only Wasm stands around it.",
  },
  {
    flags: "--seccomp <mode>",
    summary: "denied calls: enforce, log or off",
    fallback: "enforce",
    values: ["enforce", "log", "off"],
    details:
      "For the devices and the VMM alike. enforce ends who makes the call, log lets it through " +
      "and says so, off installs no filter.",
  },
  {
    flags: "--allow-weak-sandbox",
    summary: "start even if this kernel lacks a part of the sandbox",
    rare: true,
    details: "Only what the kernel refuses is left out, and what that is is said.",
  },
];
