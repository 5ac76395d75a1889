// Files of the host: none is there, and nothing can be opened.

import { foundText, type Goal, goal, VICTIM } from "../goal.js";
import { nameOf, packed } from "../native.js";

const AT_FDCWD = -100;
const O_RDONLY = 0;
const O_WRONLY = 1;
const O_CREAT = 0o100;
const O_DIRECTORY = 0o200000;
const O_TMPFILE = 0o20200000;
const PASSWD = "/etc/passwd";
const ROOT_ENTRY = "root:";
const DENTS_BYTES = 4096;
/** struct file_handle: handle_bytes, handle_type, then the handle (MAX_HANDLE_SZ 128). */
const HANDLE_BYTES = 128;
const AT_SYMLINK_FOLLOW = 0x400;

const nothing = { canary: "nothing" } as const;
/** Landlock alone stops it, too. */
const file = { canary: "nothing", landlock: 1 } as const;
const noFilter = { canary: "no filter" } as const;

const READING: Goal[] = [
  goal("read /etc/passwd: open", file, (native) =>
    foundText(native.text(native.call("open", PASSWD, O_RDONLY)), ROOT_ENTRY),
  ),
  goal("read /etc/passwd: openat", file, (native) =>
    foundText(native.text(native.call("openat", AT_FDCWD, PASSWD, O_RDONLY)), ROOT_ENTRY),
  ),
  goal("read /etc/passwd: openat2", file, (native) => {
    const how = packed(8, O_RDONLY, 0, 0);
    const fd = native.call("openat2", AT_FDCWD, PASSWD, how, how.length);
    return foundText(native.text(fd), ROOT_ENTRY);
  }),
  goal("read /etc/passwd: through /proc/self/root", file, (native) =>
    foundText(native.text(native.call("open", `/proc/self/root${PASSWD}`, O_RDONLY)), ROOT_ENTRY),
  ),
  goal("read /etc/passwd: through /proc/1/root", { why: "init may be beyond root" }, (native) =>
    foundText(native.text(native.call("open", `/proc/1/root${PASSWD}`, O_RDONLY)), ROOT_ENTRY),
  ),
  goal("read /etc/passwd: through the VMM's /proc entry", file, (native, { vmmPid }) => {
    const file = `/proc/${vmmPid}/root${PASSWD}`;
    return foundText(native.text(native.call("open", file, O_RDONLY)), ROOT_ENTRY);
  }),
  goal("read /etc/passwd: open_by_handle_at", nothing, (native) => {
    const handle = native.place(
      packed(4, HANDLE_BYTES, ...new Array(HANDLE_BYTES / 4 + 1).fill(0)),
    );
    const mountId = native.room(4);
    const flags = AT_SYMLINK_FOLLOW;
    const named = native.call("name_to_handle_at", AT_FDCWD, PASSWD, handle, mountId, flags);
    if (named < 0) return named;
    const root = native.call("open", "/", O_DIRECTORY);
    const fd = native.call("open_by_handle_at", root, handle, O_RDONLY);
    return foundText(native.text(fd), ROOT_ENTRY);
  }),
  goal("read the program it runs", file, (native) => {
    const fd = native.call("open", process.argv[1]!, O_RDONLY);
    return foundText(native.text(fd), "//");
  }),
  goal("list the root directory", file, (native) => {
    const fd = native.call("open", "/", O_DIRECTORY);
    if (fd < 0) return fd;
    return native.call("getdents64", fd, native.room(DENTS_BYTES), DENTS_BYTES);
  }),
  goal("learn whether a file exists: stat", nothing, (native) =>
    native.call("stat", PASSWD, native.room(256)),
  ),
  goal("watch a directory: inotify", noFilter, (native) => {
    const fd = native.call("inotify_init1", 0);
    return fd < 0 ? fd : native.call("inotify_add_watch", fd, "/", 0xfff);
  }),
];

const WRITING: Goal[] = [
  goal("create a file: open", file, (native, { directory }) =>
    native.call("open", `${directory}/new`, O_WRONLY | O_CREAT, 0o600),
  ),
  goal("create a file: creat", file, (native, { directory }) =>
    native.call("creat", `${directory}/new`, 0o600),
  ),
  goal("create a file: O_TMPFILE", file, (native, { directory }) =>
    native.call("open", directory, O_WRONLY | O_TMPFILE, 0o600),
  ),
  goal("create a file: memfd_create", noFilter, (native) => native.call("memfd_create", "m", 0)),
  goal("create a file: memfd_secret", { why: "not in every kernel" }, (native) =>
    native.call("memfd_secret", 0),
  ),
  goal("create a directory", file, (native, { directory }) =>
    native.call("mkdir", `${directory}/new`, 0o700),
  ),
  goal("create a device node", file, (native, { directory }) => {
    const S_IFCHR = 0o20000;
    return native.call("mknod", `${directory}/mem`, S_IFCHR | 0o600, 0x101);
  }),
  goal("remove a file", file, (native, { directory }) =>
    native.call("unlink", `${directory}/${VICTIM}`),
  ),
  goal("rename a file", file, (native, { directory }) =>
    native.call("rename", `${directory}/${VICTIM}`, `${directory}/other`),
  ),
  goal("truncate a file by name", { ...nothing, landlock: 3 }, (native, { directory }) =>
    native.call("truncate", `${directory}/${VICTIM}`, 0),
  ),
  goal("make a link to a file of the host", file, (native, { directory }) =>
    native.call("link", `${directory}/${VICTIM}`, `${directory}/other`),
  ),
];

const SIBLING: Goal[] = [
  goal("read a sibling's image: by its name", file, (native, { siblingImage }) =>
    foundText(native.text(native.call("open", siblingImage, O_RDONLY)), "image"),
  ),
  goal("read a sibling's image: through its /proc entry", file, (native, { siblingPid }) =>
    foundText(native.text(native.call("open", `/proc/${siblingPid}/fd/5`, O_RDONLY)), "image"),
  ),
  goal(
    "read a sibling's image: descriptor 4",
    { why: "every process has a table of its own: EBADF" },
    (native) => native.call("read", 4, native.room(1), 1),
  ),
  goal(
    "read a sibling's image: any descriptor",
    { why: "every process has a table of its own: EBADF" },
    (native) => {
      const into = native.room(1);
      for (let fd = 6; fd < 1024; fd++) {
        const result = native.call("read", fd, into, 1);
        if (result >= 0) return { reached: true, detail: `descriptor ${fd}` };
      }
      return { reached: false, detail: nameOf(-9) };
    },
  ),
];

export const FILE_GOALS: readonly Goal[] = [...READING, ...WRITING, ...SIBLING];
