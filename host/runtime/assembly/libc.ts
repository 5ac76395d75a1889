// Functions of the C library (host/ffi/libc.ts), with addresses as JavaScript's numbers.

export declare function recvmsg(fd: i32, msghdr: f64, flags: i32): i32;
export declare function sendmsg(fd: i32, msghdr: f64, flags: i32): i32;
export declare function read(fd: i32, address: f64, bytes: i32): i32;
export declare function write(fd: i32, address: f64, bytes: i32): i32;
export declare function pread64(fd: i32, address: f64, bytes: i32, offset: f64): i32;
export declare function pwrite64(fd: i32, address: f64, bytes: i32, offset: f64): i32;
