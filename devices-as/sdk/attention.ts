// What the device waits for besides requests, where the runtime looks for it (wit/events.wit). The
// runtime clears what has come, and everything when the driver resets the device.

@unmanaged
class Attention {
  deadline: u64 = 0;
  interest: u32 = 0;
  configGeneration: u32 = 0;
  config: usize = 0;
  /** Features 0 to 31 of the manifest that this device does not offer; read after start(). */
  withheld: u32 = 0;
}

/** The first WASI descriptor that is a capability; 0 and 1 do not exist, 2 is the log. */
export const FD_FIRST: u32 = 3;

const AT: usize = memory.data(offsetof<Attention>(), 8);

/** The one that this module has. */
export const attention: Attention = changetype<Attention>(AT);
