// What an attacker can be told to do, by name.

import type { ImportedFunction } from "../../../host/sandbox/sections.js";
import type { Context } from "./goal.js";
import { GOALS } from "./goals/all.js";
import type { Native } from "./native.js";

/** What the test tells the attacker, as JSON in the place of the device's id. */
export interface Order {
  deed: string;
  /** Whether it confines itself, as every device does. */
  confine: boolean;
  context: Context;
  /** Imports to make the policy of, instead of those of the module. */
  imports?: readonly ImportedFunction[];
}

export type Deed = (native: Native, say: (text: string) => void) => unknown;

export function deedOf({ deed, context }: Order): Deed {
  if (deed === "nothing") return () => ({ reached: false, detail: "" });
  const goal = GOALS.find(({ name }) => name === deed);
  if (goal === undefined) throw new Error(`no deed "${deed}"`);
  return (native) => goal.attempt(native, context);
}
