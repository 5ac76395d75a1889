// virtio-console: a console for the guest, and more ports by name (virtio v1.2 §5.3).
//
// Port 0 is the console, /dev/hvc0 in Linux; the others are /dev/virtio-ports/NAME there. What has
// nobody to go to yet stays with the driver, so however slow the other end is, no byte is lost.
import {
  capability,
  Chain,
  configSpace,
  demand,
  Device,
  Need,
  option,
  register,
  Rights,
  TextOption,
  Unix,
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_F_EMERG_WRITE,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_RESIZE,
  VIRTIO_ID_CONSOLE,
} from "bulkhead/sdk";
import { Port } from "./console/port";

/** Ports besides the console: three capabilities are its own, and a device has eight at most. */
const NAMED_PORTS_MAX: u32 = 4;
const PORTS_MAX: u32 = 1 + NAMED_PORTS_MAX;

/** Two of port 0, two for control messages, two of each other port (§5.3.2). */
const CONTROL_RECEIVEQ: u32 = 2;
const CONTROL_TRANSMITQ: u32 = 3;
const QUEUES: u32 = 2 + 2 * PORTS_MAX;

/** A page each in Linux: 1 MiB may be underway to the outside. */
const QUEUE_SIZE: u32 = 256;

/** `struct virtio_console_control`: id │ event │ value (§5.3.6.2). */
const CONTROL_BYTES: u32 = 8;

/** `struct virtio_console_config` (§5.3.4). */
@unmanaged
class ConsoleConfig {
  cols: u16 = 0;
  rows: u16 = 0;
  max_nr_ports: u32 = PORTS_MAX;
  emerg_wr: u32 = 0;
}
const EMERG_WR: u32 = 8;
const config = configSpace<ConsoleConfig>();

const tty = capability.tty("tty", Rights.Read | Rights.Write, Need.Optional);
const file = capability.file("file", Rights.Append, Need.Optional);
const socket = capability.unix("socket", Rights.Connect | Rights.Listen, Need.Optional);
const sockets: StaticArray<Unix> = [
  capability.unix("port1", Rights.Connect | Rights.Listen, Need.Optional),
  capability.unix("port2", Rights.Connect | Rights.Listen, Need.Optional),
  capability.unix("port3", Rights.Connect | Rights.Listen, Need.Optional),
  capability.unix("port4", Rights.Connect | Rights.Listen, Need.Optional),
];
const names: StaticArray<TextOption> = [
  option.text("name1"),
  option.text("name2"),
  option.text("name3"),
  option.text("name4"),
];
const DEFAULT_NAMES: StaticArray<string> = ["port1", "port2", "port3", "port4"];

/** Whether udev and a shell can have a file of that name. */
function isFileName(name: string): bool {
  for (let i = 0; i < name.length; i++) {
    const unit = name.charCodeAt(i);
    if (unit <= 0x20 || unit > 0x7e || unit == 0x2f) return false;
  }
  return !name.startsWith(".");
}

class Console extends Device {
  /** By id; a port without anything outside is not there, except for the console. */
  private readonly ports: StaticArray<Port | null> = new StaticArray<Port | null>(<i32>PORTS_MAX);
  private isMultiport: bool = false;
  /** The driver was told once more of the size that its console has. */
  private hasRepeated: bool = false;
  /** The byte of an emergency write. */
  private readonly byte: StaticArray<u8> = new StaticArray<u8>(1);

  constructor() {
    const sizes = new StaticArray<u32>(<i32>QUEUES);
    super(
      VIRTIO_ID_CONSOLE,
      sizes.fill(QUEUE_SIZE),
      (1 << VIRTIO_CONSOLE_F_SIZE) |
        (1 << VIRTIO_CONSOLE_F_MULTIPORT) |
        (1 << VIRTIO_CONSOLE_F_EMERG_WRITE),
    );
  }

  start(): void {
    const console = new Port("console", true);
    const outsides = <u32>tty.granted + <u32>file.granted + <u32>socket.granted;
    demand(outsides == 1, "grant one of tty, file and socket: where is the console to go?");
    if (tty.granted) console.useTty(tty);
    else if (file.granted) console.useFile(file);
    else console.useSocket(socket);
    this.ports[0] = console;
    let hasNamed = false;
    for (let i = 0; i < <i32>NAMED_PORTS_MAX; i++) {
      if (!sockets[i].granted) continue;
      const name = names[i].length == 0 ? DEFAULT_NAMES[i] : names[i].toString();
      demand(isFileName(name), "a name of a port: ASCII without spaces and /, no dot in front");
      const port = new Port(name, false);
      port.useSocket(sockets[i]);
      this.ports[1 + i] = port;
      hasNamed = true;
    }
    if (!hasNamed) this.withhold(1 << VIRTIO_CONSOLE_F_MULTIPORT);
    if (!console.hasSize) this.withhold(1 << VIRTIO_CONSOLE_F_SIZE);
    this.look();
  }

  activate(features: u64): void {
    this.isMultiport = (features & (1 << VIRTIO_CONSOLE_F_MULTIPORT)) != 0;
    this.ports[0]!.isOpen = !this.isMultiport; // who has one port only does not say so
    this.look();
  }

  reset(): void {
    this.isMultiport = false;
    this.hasRepeated = false;
    for (let id: u32 = 0; id < PORTS_MAX; id++) {
      const port = this.ports[id];
      if (port != null) port.reset();
    }
  }

  wake(): void {
    this.look();
  }

  /** An emergency write is all that a driver may write; it works before DRIVER_OK, too. */
  configure(offset: u32, bytes: u32): bool {
    if (offset != EMERG_WR) return false;
    this.byte[0] = <u8>config.emerg_wr;
    this.ports[0]!.say(this.byte);
    return false;
  }

  /** Looks at what there is outside: how large the terminal is, who has come, who has gone. */
  private look(): void {
    if (this.ports[0]!.hasSize) this.measure(this.ports[0]!.size);
    for (let id: u32 = 0; id < PORTS_MAX; id++) {
      const port = this.ports[id];
      if (port == null) continue;
      port.look();
      this.attend(id, port);
    }
  }

  /** Takes who has come to a port, unless the driver has not heard yet of who went. */
  private attend(id: u32, port: Port): void {
    port.attend();
    this.follow(id, port);
  }

  /** The driver is told of a size, rows │ columns, that is not the one that it knows. */
  private measure(size: u32): void {
    if (size == ((<u32>config.rows << 16) | config.cols)) return;
    config.rows = <u16>(size >> 16);
    config.cols = <u16>size;
    this.tell(0, VIRTIO_CONSOLE_RESIZE);
  }

  /** Has the driver told when somebody came or went. */
  private follow(id: u32, port: Port): void {
    if (port.isConnected == port.wasConnected) return;
    port.wasConnected = port.isConnected;
    this.tell(id, VIRTIO_CONSOLE_PORT_OPEN);
  }

  /** The driver is told when it has a buffer for that, but only of what it said it is ready for. */
  private tell(id: u32, event: u16): void {
    const port = this.ports[id]!;
    if (port.isReady) port.pending |= 1 << event;
  }

  serve(queue: u32, chain: Chain): void {
    if (queue == CONTROL_RECEIVEQ) return this.inform(chain);
    if (queue == CONTROL_TRANSMITQ) return this.obey(chain);
    const id = queue < CONTROL_RECEIVEQ ? 0 : queue / 2 - 1;
    const port = this.ports[id];
    const isReceiveq = queue % 2 == 0;
    if (port == null || (id > 0 && !this.isMultiport)) {
      if (isReceiveq) chain.wait(); // there is no such port, and nothing ever comes from it
      return;
    }
    if (isReceiveq) port.receive(chain);
    else port.transmit(chain);
    if (id == 0 && port.hasInput) this.repeatSize();
    this.follow(id, port);
    this.attend(id, port);
  }

  /**
   * Linux reads the size in the config space when it is told of a change, and at no other time: at
   * the first key, when its console is set up and somebody uses it, it is told that emerg_wr has
   * changed, which says nothing to a driver that reads it (§5.3.4).
   */
  private repeatSize(): void {
    if (this.hasRepeated || this.isMultiport || !this.ports[0]!.hasSize) return;
    this.hasRepeated = true;
    config.emerg_wr ^= 1;
  }

  /** Takes what the driver says of its ports; what makes no sense changes nothing. */
  private obey(chain: Chain): void {
    if (!this.isMultiport || chain.readable < CONTROL_BYTES) return;
    const id = chain.read<u32>();
    const event = chain.read<u16>();
    const value = chain.read<u16>();
    if (event == VIRTIO_CONSOLE_DEVICE_READY && value == 1) return this.addAll();
    if (id >= PORTS_MAX) return;
    const port = this.ports[id];
    if (port == null) return;
    if (event == VIRTIO_CONSOLE_PORT_OPEN) port.isOpen = value == 1;
    if (event == VIRTIO_CONSOLE_PORT_READY && value == 1) this.introduce(port);
  }

  private addAll(): void {
    for (let id: u32 = 0; id < PORTS_MAX; id++) {
      const port = this.ports[id];
      if (port != null) port.pending |= 1 << VIRTIO_CONSOLE_PORT_ADD;
    }
  }

  /** The driver has set up a port, and now hears what that is. */
  private introduce(port: Port): void {
    port.isReady = true;
    const what = port.isConsole ? VIRTIO_CONSOLE_CONSOLE_PORT : VIRTIO_CONSOLE_PORT_NAME;
    port.pending |= 1 << what;
    if (port.hasSize) port.pending |= 1 << VIRTIO_CONSOLE_RESIZE;
    if (port.isConnected) port.pending |= 1 << VIRTIO_CONSOLE_PORT_OPEN;
  }

  /** Fills a buffer with the next control message, or lets it wait for one. */
  private inform(chain: Chain): void {
    for (let id: u32 = 0; id < PORTS_MAX; id++) {
      const port = this.ports[id];
      if (port == null || port.pending == 0) continue;
      const event = nextOf(port.pending);
      port.pending &= ~(1 << event);
      if (chain.writable >= CONTROL_BYTES) this.say(chain, id, event);
      this.attend(id, port);
      return; // in a buffer of less there is no message, and none was asked for
    }
    chain.wait();
  }

  private say(chain: Chain, id: u32, event: u16): void {
    const port = this.ports[id]!;
    chain.write<u32>(id);
    chain.write<u16>(event);
    const isClosed = event == VIRTIO_CONSOLE_PORT_OPEN && !port.isConnected;
    chain.write<u16>(isClosed ? 0 : 1);
    if (event == VIRTIO_CONSOLE_PORT_NAME) {
      const length = <u32>port.name.length;
      if (chain.writable >= length) chain.writeText(port.name, length);
    }
    if (event == VIRTIO_CONSOLE_RESIZE && chain.writable >= 4) {
      // As the specification has them, and Linux since 6.15: before that it took them the other
      // way round. A console alone has its size in the config space, which all agree about.
      chain.write<u16>(config.cols);
      chain.write<u16>(config.rows);
    }
  }
}

/** The event that a port hears first: it is added, then said what it is, then opened. */
function nextOf(pending: u32): u16 {
  const isNamed = (pending & (1 << VIRTIO_CONSOLE_PORT_NAME)) != 0;
  const isOpened = (pending & (1 << VIRTIO_CONSOLE_PORT_OPEN)) != 0;
  const first = <u16>ctz(pending);
  const isTooEarly = isNamed && isOpened && first == VIRTIO_CONSOLE_PORT_OPEN;
  return isTooEarly ? VIRTIO_CONSOLE_PORT_NAME : first;
}

register(new Console());
