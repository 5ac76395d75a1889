// Unix sockets that are granted: connected, or listening, before the device's process exists, which
// can do neither.

import { grantError, type ResolvedGrant, type SocketFile } from "./grants.js";
import { connectTo, listenAt, type Place } from "./unix-socket.js";

/** Who connects while another is served waits; the kernel turns away those beyond. */
const BACKLOG = 4;

/** Opens a grant of kind `unix`. */
export function openUnix(grant: ResolvedGrant): { fd: number; socketFile?: SocketFile } {
  const { name, kind, what: path } = grant;
  const fault = (cause: string) => grantError(`Cannot grant ${name}=${kind}:${path}: ${cause}`);
  const place: Place = { path, fault };
  return grant.rights.includes("listen") ? listenAt(place, BACKLOG) : { fd: connectTo(place) };
}
