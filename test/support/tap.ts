// Network interfaces for tests, which only root can make.

import { execFileSync } from "node:child_process";
import fs from "node:fs";

let count = 0;
/** Twenty seconds: no interface takes that long. */
const TRIES_MAX = 2000;
const TRY_MS = 10;

/** A network of the test's own: addresses for documentation (RFC 5737), which nobody routes. */
export const HOST_ADDRESS = [198, 51, 100, 1] as const;
export const DEVICE_ADDRESS = [198, 51, 100, 2] as const;

function ip(...args: string[]): void {
  execFileSync("ip", args, { stdio: "pipe" });
}

/** Why there can be no tap here; undefined where there can. */
export function whyNoTap(): string | undefined {
  if (!fs.existsSync("/dev/net/tun")) return "there is no /dev/net/tun: modprobe tun";
  const name = `bh-try-${process.pid}`.slice(0, 15);
  try {
    ip("tuntap", "add", "dev", name, "mode", "tap");
    ip("tuntap", "del", "dev", name, "mode", "tap");
    return undefined;
  } catch (error) {
    return `a tap needs root and ip(8): ${(error as Error).message.split("\n").at(-2) ?? ""}`;
  }
}

/** A tap that is there until the process ends, with HOST_ADDRESS on the host's side. */
export function newTap(): string {
  count += 1;
  const name = `bh${process.pid}-${count}`.slice(0, 15);
  ip("tuntap", "add", "dev", name, "mode", "tap");
  process.once("exit", () => ip("link", "del", name));
  ip("address", "add", `${HOST_ADDRESS.join(".")}/24`, "dev", name);
  ip("link", "set", name, "up");
  return name;
}

/**
 * Asks the host for its address until `frames` has the answer among those that came meanwhile: the
 * interface needs a moment after it was taken.
 */
export async function untilAnswered(
  ask: () => void,
  frames: () => Uint8Array[],
): Promise<Uint8Array | undefined> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    ask();
    await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    const answer = frames().find(isArpReply);
    if (answer !== undefined) return answer;
  }
  return undefined;
}

/** An ARP request of the device for the host's address, as an Ethernet frame (RFC 826). */
export function arpRequest(): Uint8Array<ArrayBuffer> {
  const mac = [2, 0, 0, 0, 0, 2];
  const all = [255, 255, 255, 255, 255, 255];
  const ETHERTYPE_ARP = [8, 6];
  const ethernetIpv4Request = [0, 1, 8, 0, 6, 4, 0, 1];
  const asked = [0, 0, 0, 0, 0, 0, ...HOST_ADDRESS];
  const parts = [all, mac, ETHERTYPE_ARP, ethernetIpv4Request, mac, DEVICE_ADDRESS, asked];
  return Uint8Array.from(parts.flat());
}

/** Whether a frame answers arpRequest(). */
function isArpReply(frame: Uint8Array): boolean {
  const REPLY = 2;
  const sender = frame.subarray(28, 32).join();
  return (
    frame[12] === 8 && frame[13] === 6 && frame[21] === REPLY && sender === HOST_ADDRESS.join()
  );
}
