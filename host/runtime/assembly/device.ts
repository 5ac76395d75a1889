// The exports of a device that batch.ts calls.

/** Answers one request: bytes of the reply, or WAITS (wit/device.wit). */
export declare function serve(
  queue: u32,
  readable: u32,
  bytes: u32,
  writable: u32,
  capacity: u32,
): u32;
