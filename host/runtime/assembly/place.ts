// Where the device's memory was when that was found out.

/** Its native address, as JavaScript has numbers. */
export declare let base: f64;
/** Its size. */
export declare let pages: i32;
