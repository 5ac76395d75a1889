// A keyboard (virtio v1.2 §5.8) at which sits whoever connects to a unix socket: each byte that is
// sent is a key of a US keyboard, pressed and released, with Shift where it needs that.
//
//   bulkhead run … --device ./keyboard.wasm --grant keyboard0.typist=unix:/run/keys:listen
//   printf 'Hello\n' | nc -U /run/keys
import {
  capability,
  Chain,
  configBytes,
  configSpace,
  Device,
  register,
  Rights,
  VIRTIO_ID_INPUT,
  VIRTIO_INPUT_CFG_EV_BITS,
  VIRTIO_INPUT_CFG_ID_DEVIDS,
  VIRTIO_INPUT_CFG_ID_NAME,
} from "bulkhead/sdk";

/** The driver offers empty events in the first queue; LEDs would be in the second (§5.8.2). */
const EVENTQ: u32 = 0;

/** `struct virtio_input_event`: type │ code │ value (§5.8.6). */
const EVENT_BYTES: u32 = 8;

/** Numbers of linux/input.h and linux/input-event-codes.h, which §5.8 refers to. */
const BUS_VIRTUAL: u16 = 6;
const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const KEY_LEFTSHIFT: u16 = 42;

/** What each key types, by its code and up to 57, the space bar; 0 for those that type nothing. */
const PLAIN = "\0\0" + "1234567890-=\0\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0\0\0 ";
const SHIFTED = "\0\0" + '!@#$%^&*()_+\0\0QWERTYUIOP{}\0\0ASDFGHJKL:"~\0|ZXCVBNM<>?';
const BITMAP_BYTES: u8 = 8; // a bit for each of them

/** `struct virtio_input_config` up to the union that follows it (§5.8.4). */
@unmanaged
class InputConfig {
  select: u8 = 0;
  subsel: u8 = 0;
  size: u8 = 0;
}
const UNION_AT: u32 = 8;
const UNION_BYTES: u32 = 128;
const config = configSpace<InputConfig>(UNION_AT + UNION_BYTES);
const union = configBytes(UNION_AT, UNION_BYTES);

const typist = capability.unix("typist", Rights.Connect | Rights.Listen);

class Keyboard extends Device {
  /** Bytes that were read and are not typed: `count` of them, from `first` on. */
  private readonly heard: StaticArray<u8> = new StaticArray<u8>(64);
  private first: u32 = 0;
  private count: u32 = 0;

  /** The key that is being typed, 0 if there is none, and how many of its events are told. */
  private key: u16 = 0;
  private isShifted: bool = false;
  private told: u32 = 0;

  constructor() {
    super(VIRTIO_ID_INPUT, [64, 64]);
  }

  /** A key that one driver saw pressed, the next one does not see released. */
  reset(): void {
    this.key = 0;
    this.count = 0;
    this.select();
  }

  /** The driver selects what it wants to know, and may write nothing else. */
  configure(offset: u32, bytes: u32): bool {
    if (offset + bytes > offsetof<InputConfig>("size")) return false;
    this.select();
    return true;
  }

  /** Puts what is selected into the union, and its size; 0 means that there is no such thing. */
  private select(): void {
    config.size = 0;
    union.fill(0);
    switch (config.select) {
      case VIRTIO_INPUT_CFG_ID_NAME:
        config.size = <u8>union.writeText("Bulkhead keyboard");
        break;
      case VIRTIO_INPUT_CFG_ID_DEVIDS: // bus │ vendor │ product │ version
        union.write<u16>(0, BUS_VIRTUAL);
        config.size = 8;
        break;
      case VIRTIO_INPUT_CFG_EV_BITS: // which events of type `subsel` there are
        if (config.subsel != EV_KEY) break;
        for (let code: u8 = 0; code < <u8>PLAIN.length; code++) {
          const exists = PLAIN.charCodeAt(code) != 0 || code == KEY_LEFTSHIFT;
          if (exists) union[code >> 3] |= 1 << (code & 7);
        }
        config.size = BITMAP_BYTES;
        break;
    }
  }

  /** An event that the driver offers waits until there is one to tell. What it says of LEDs … */
  serve(queue: u32, chain: Chain): void {
    if (queue != EVENTQ || chain.writable < EVENT_BYTES) return; // … goes to none
    while (this.key == 0) {
      if (this.count == 0 && !this.hear()) return chain.wait();
      this.type(this.heard[this.first]);
      this.first += 1;
      this.count -= 1;
    }
    this.tell(chain);
  }

  /** Reads what is typed next. False if that is nothing for now; then it wakes the device. */
  private hear(): bool {
    while (typist.accept()) {
      this.first = 0;
      this.count = typist.readBytes(this.heard, 0, this.heard.length);
      if (this.count > 0) return true;
      if (typist.again) break;
      typist.close(); // it is gone, and the next may come …
      if (typist.connected) return false; // … but nobody comes where the user granted a connection
    }
    typist.awaitReadable();
    return false;
  }

  /** Finds the key that types `byte`; what no key types is ignored. */
  private type(byte: u8): void {
    if (byte == 0) return;
    for (let code = 0; code < PLAIN.length; code++) {
      const isPlain = PLAIN.charCodeAt(code) == byte;
      const isShifted = code < SHIFTED.length && SHIFTED.charCodeAt(code) == byte;
      if (!isPlain && !isShifted) continue;
      this.key = <u16>code;
      this.isShifted = isShifted;
      this.told = isShifted ? 0 : 1;
    }
  }

  /** Tells the next event: [Shift], the key, and all at once; then the same for their release. */
  private tell(chain: Chain): void {
    const step = this.told++;
    if (step == 0) event(chain, EV_KEY, KEY_LEFTSHIFT, 1);
    else if (step == 1) event(chain, EV_KEY, this.key, 1);
    else if (step == 2) event(chain, EV_SYN, 0, 0);
    else if (step == 3) event(chain, EV_KEY, this.key, 0);
    else if (step == 4 && this.isShifted) event(chain, EV_KEY, KEY_LEFTSHIFT, 0);
    else {
      event(chain, EV_SYN, 0, 0);
      this.key = 0;
    }
  }
}

function event(chain: Chain, type: u16, code: u16, value: u32): void {
  chain.write<u16>(type);
  chain.write<u16>(code);
  chain.write<u32>(value);
}

register(new Keyboard());
