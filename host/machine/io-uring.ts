// From Node 22 on an event loop tells the kernel of its descriptors through a ring of io_uring
// (uv__epoll_ctl_prep of libuv), whatever UV_USE_IO_URING says. What is asked for through a ring
// goes by every seccomp filter, files opened and sockets connected included: no VMM may have one.

import { readdirSync, readlinkSync } from "node:fs";

/** Whether it may have one; Node 20 has none unless it is told to, and looking takes 0.5 ms. */
const MAY_HAVE =
  Number.parseInt(process.versions.node, 10) > 20 || process.env.UV_USE_IO_URING !== undefined;

/** Whether this process has a ring. */
export function hasIoUring(): boolean {
  if (!MAY_HAVE) return false;
  return readdirSync("/proc/self/fd").some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[io_uring]";
    } catch {
      return false; // the descriptor that listed the directory
    }
  });
}
