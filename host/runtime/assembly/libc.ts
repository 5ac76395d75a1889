// Functions of the C library (host/ffi/libc.ts), with addresses as JavaScript's numbers.

export declare function recvmsg(fd: i32, msghdr: f64, flags: i32): i32;
export declare function sendmsg(fd: i32, msghdr: f64, flags: i32): i32;
