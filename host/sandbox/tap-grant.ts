// Network interfaces that are granted: the host's end of a cable whose other end is the descriptor.

import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { errnoName } from "../errors.js";
import { errno, ioctl } from "../ffi/libc.js";
import { Mapping } from "../ffi/memory.js";
import { grantError, type ResolvedGrant } from "./grants.js";
import { TUN } from "./linux.js";

const TUN_DEVICE = "/dev/net/tun";
/** struct ifreq (linux/if.h): ifr_name, ifr_flags in a union. */
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;
/** In front of every name in /proc/net/dev there are spaces, and a colon behind it. */
const NAME = /^ *(\S+):/gm;

const CAUSES: Readonly<Record<string, string>> = {
  EBUSY: "another program has it",
  EINVAL: "it is no tap",
  EPERM: "this user may not have it",
};

function fault({ name, kind, what }: ResolvedGrant, cause: string): Error {
  const user = process.env.USER ?? "USER";
  const hint = `create it with: ip tuntap add dev ${what} mode tap user ${user}`;
  return grantError(`Cannot grant ${name}=${kind}:${what}: ${cause}\n${hint}`);
}

function openTun(grant: ResolvedGrant): number {
  try {
    return openSync(TUN_DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const name = (error as NodeJS.ErrnoException).code ?? "";
    const missing = "the kernel has no such driver, try: modprobe tun";
    const cause = name === "ENOENT" || name === "ENODEV" ? missing : "this user may not open it";
    throw fault(grant, `${TUN_DEVICE}: ${name}, ${cause}`);
  }
}

/** Takes the interface: 0, or an errno. */
function attach(fd: number, name: string): number {
  const ifreq = Mapping.anonymous(IFREQ_BYTES);
  new Uint8Array(ifreq.view.buffer).set(new TextEncoder().encode(name));
  ifreq.view.setUint16(IFNAMSIZ, TUN.IFF_TAP | TUN.IFF_NO_PI, true);
  const result = ioctl(fd, TUN.TUNSETIFF, ifreq.address);
  const number = result === 0 ? 0 : errno();
  ifreq.close();
  return number;
}

/**
 * Opens a grant of kind `tap`: one read or write is one Ethernet frame, without a header of any
 * kind, so nothing that a device writes is taken for a request to the kernel to cut or sum it.
 */
export function openTap(grant: ResolvedGrant): { fd: number } {
  // Root would make one of any name, and it would be gone with the VM.
  const names = [...readFileSync("/proc/self/net/dev", "latin1").matchAll(NAME)];
  if (!names.some(([, name]) => name === grant.what)) {
    throw fault(grant, "there is no such interface");
  }
  const fd = openTun(grant);
  const number = attach(fd, grant.what);
  if (number === 0) return { fd };
  closeSync(fd);
  const name = errnoName(number);
  throw fault(grant, `TUNSETIFF: ${name}, ${CAUSES[name] ?? "it cannot be had"}`);
}
