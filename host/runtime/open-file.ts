// What a module's descriptors stand for: what was granted, and what came of it.

import { functionsOn, type GrantedFd } from "../sandbox/grants.js";
import type { Listing } from "./directory-calls.js";

/** A granted descriptor, and the functions that it may be used with. */
export interface OpenFile {
  fd: number;
  functions: ReadonlySet<string>;
  /** The functions that work on what comes of it: a connection, a file. */
  onOpened: ReadonlySet<string>;
  /** Bytes of a block device. */
  deviceBytes: number;
  /** Of an opened directory, once it was asked what it holds. */
  listing?: Listing;
  isTerminal: boolean;
  /** Somebody is at its other end, or nobody. */
  hasOtherEnd: boolean;
  /**
   * What a call that moves bytes returns is all that there is to say (transfers.ts). That of a
   * terminal or a socket may depend on who is at the other end.
   */
  isPlain: boolean;
}

/** What came of a granted descriptor: a connection, or a file of a directory. */
export function openedFrom({ onOpened }: OpenFile, fd: number): OpenFile {
  const none = new Set<string>();
  const plain = { deviceBytes: 0, isTerminal: false, hasOtherEnd: false, isPlain: false };
  return { fd, functions: onOpened, onOpened: none, ...plain };
}

/** A granted descriptor as its module has it. */
export function openFile({
  fd,
  kind,
  rights,
  deviceBytes,
}: Pick<GrantedFd, "fd" | "kind" | "rights"> & { deviceBytes: number }): OpenFile {
  const isTerminal = kind === "tty";
  return {
    fd,
    functions: functionsOn("grant", { kind, rights }),
    onOpened: functionsOn("opened", { kind, rights }),
    deviceBytes,
    isTerminal,
    isPlain: kind === "file" || kind === "tap",
    hasOtherEnd: isTerminal || kind === "unix",
  };
}
