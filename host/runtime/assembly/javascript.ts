// The same functions in JavaScript, which know every case, and the errno as WASI numbers it.

export declare function fd_read(fd: u32, iovecs: u32, count: u32, done: u32): i32;
export declare function fd_write(fd: u32, iovecs: u32, count: u32, done: u32): i32;
export declare function fd_pread(fd: u32, iovecs: u32, count: u32, at: u64, done: u32): i32;
export declare function fd_pwrite(fd: u32, iovecs: u32, count: u32, at: u64, done: u32): i32;
export declare function errno(): i32;
