// Capabilities: what a device asks for by name, and what the user grants on the command line.
//
// The n-th capability that a device declares is WASI descriptor 3 + n, granted or not. The build
// reads the declarations (describe.ts) and writes them into the module's manifest.

import { FD_FIRST } from "./attention";
import { Clock } from "./clock";
import { Directory } from "./directory";
import { File } from "./file";
import { Random } from "./random";
import { Tap } from "./tap";
import { Tty } from "./tty";
import { Unix } from "./unix";

/** Capabilities that one device may declare. */
export const CAPABILITIES_MAX: u32 = 8;

/** What a device may do with a capability; `Read | Write` for both. */
export enum Rights {
  Read = 1,
  Write = 2,
  /** Of a file: at its end and nowhere else. */
  Append = 4,
  /** Of a unix socket: it is connected. */
  Connect = 8,
  /** Of a unix socket: others connect. */
  Listen = 16,
}

/** The kinds of capability, as in `--grant ID.NAME=KIND:WHAT`. */
export enum Kind {
  File = 1,
  Clock = 2,
  Random = 3,
  Unix = 4,
  Tty = 5,
  Tap = 6,
  Directory = 7,
}

/** Whether a device can do without a capability. */
export enum Need {
  Required = 1,
  /**
   * The device starts without it, too, and then each call on it fails: File and its like say so by
   * their errno, of a clock `granted` tells before it is asked for the time.
   */
  Optional = 0,
}

/** One declaration, as describe.ts lays it out: name │ kind │ rights │ required. */
@unmanaged
export class Declaration {
  name: usize = 0;
  kind: u32 = 0;
  rights: u32 = 0;
  required: u32 = 0;
}

/** The declarations, one after the other, in static memory. */
export const declarations: usize = memory.data(8 * offsetof<Declaration>());
export let declarationCount: u32 = 0;

function declare_(name: string, kind: Kind, rights: Rights, need: Need): u32 {
  assert(declarationCount < CAPABILITIES_MAX, "too many capabilities");
  const at = changetype<Declaration>(declarations + declarationCount * offsetof<Declaration>());
  at.name = changetype<usize>(name);
  at.kind = kind;
  at.rights = rights;
  at.required = need;
  return FD_FIRST + declarationCount++;
}

/** Declarations of capabilities; call them at the top level of a device's source. */
export namespace capability {
  /** A file that the user grants under `name`: `file:PATH:ro|wo|rw|ap`. */
  export function file(name: string, rights: Rights, need: Need = Need.Required): File {
    return new File(declare_(name, Kind.File, rights, need));
  }

  /** A directory that the user grants under `name`: `dir:PATH:ro|rw`. */
  export function directory(name: string, rights: Rights, need: Need = Need.Required): Directory {
    return new Directory(declare_(name, Kind.Directory, rights, need));
  }

  /** A clock that the user grants under `name`: `clock:monotonic` or `clock:realtime`. */
  export function clock(name: string, need: Need = Need.Required): Clock {
    declare_(name, Kind.Clock, Rights.Read, need);
    return new Clock();
  }

  /**
   * A unix socket: `unix:PATH:connect` or `unix:PATH:listen`. Where both are asked for, the user
   * chooses; accept() is then what tells.
   */
  export function unix(name: string, rights: Rights, need: Need = Need.Required): Unix {
    return new Unix(declare_(name, Kind.Unix, rights, need), (rights & Rights.Listen) != 0);
  }

  /** A terminal: `tty:PATH:ro|wo|rw`. */
  export function tty(name: string, rights: Rights, need: Need = Need.Required): Tty {
    return new Tty(declare_(name, Kind.Tty, rights, need));
  }

  /** A network interface of the host: `tap:IFNAME`. */
  export function tap(name: string, need: Need = Need.Required): Tap {
    return new Tap(declare_(name, Kind.Tap, Rights.Read | Rights.Write, need));
  }

  /** The host's random numbers: `random:urandom`. */
  export function random(name: string, need: Need = Need.Required): Random {
    declare_(name, Kind.Random, Rights.Read, need);
    return new Random();
  }
}
