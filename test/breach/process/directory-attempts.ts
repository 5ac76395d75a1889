// System calls on a granted directory, as an attacker is told them.

import { GRANT_FD_FIRST } from "../../../host/sandbox/descriptors.js";
import { type Native, nameOf } from "./native.js";

/** A name and arguments; "dir" stands for the descriptor of the directory. */
export type Attempt = [syscall: string, ...args: (string | number)[]];

/** Makes each of the calls: "result N", or the name of its errno. */
export function tryAll(native: Native, attempts: readonly Attempt[]): string[] {
  return attempts.map(([name, ...args]) => {
    const values = args.map((arg) => (arg === "dir" ? GRANT_FD_FIRST : arg));
    const result = native.call(name, ...values);
    native.reset();
    return result < 0 ? nameOf(result) : `result ${result}`;
  });
}
