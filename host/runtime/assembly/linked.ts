// What a device is linked with, before its memory is there: functions that find in a table those
// that work on it (transfers.ts). In the memory here, which the device cannot touch, is which
// descriptors they may use: a word for each is one more than the process's own, or 0.

import { FD_PREAD, FD_PWRITE, FD_READ, FD_WRITE, FILES_MAX } from "./granted";

function fileOf(transfer: u32, fd: u32): u32 {
  return fd < <u32>FILES_MAX ? load<u32>((transfer * FILES_MAX + fd) * sizeof<u32>()) : 0;
}

export function fd_read(fd: u32, iovecs: u32, count: u32, done: u32): i32 {
  return call_indirect<i32>(FD_READ, fileOf(FD_READ, fd), fd, iovecs, count, done);
}

export function fd_write(fd: u32, iovecs: u32, count: u32, done: u32): i32 {
  return call_indirect<i32>(FD_WRITE, fileOf(FD_WRITE, fd), fd, iovecs, count, done);
}

export function fd_pread(fd: u32, iovecs: u32, count: u32, offset: u64, done: u32): i32 {
  return call_indirect<i32>(FD_PREAD, fileOf(FD_PREAD, fd), fd, iovecs, count, offset, done);
}

export function fd_pwrite(fd: u32, iovecs: u32, count: u32, offset: u64, done: u32): i32 {
  return call_indirect<i32>(FD_PWRITE, fileOf(FD_PWRITE, fd), fd, iovecs, count, offset, done);
}
