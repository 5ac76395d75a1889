// What a device's own process does with its socket: plain messages never leave the pump, all others
// are the dispatcher's.

import type { OptionValue } from "../sandbox/options.js";
import { CLOSED, type SocketChannel } from "../wire/channel.js";
import { PAYLOAD_BYTES_MAX } from "../wire/format.js";
import { DONE, MESSAGE } from "./assembly/shared.js";
import { Dispatcher } from "./dispatch.js";
import type { DeviceInstance } from "./instance.js";
import type { Pump } from "./pump.js";

export interface Served {
  device: DeviceInstance;
  /** Serves the batches of `device`. */
  pump: Pump;
  /** Ends the process: the VMM is gone. */
  closed(): never;
}

export class Service {
  readonly #channel: SocketChannel;
  readonly #dispatcher: Dispatcher;
  readonly #served: Served;

  /** @param channel blocking; its incoming and outgoing messages are the service's */
  constructor(channel: SocketChannel, served: Served) {
    this.#channel = channel;
    this.#served = served;
    const headers = { requests: channel.incoming, replies: channel.outgoing };
    this.#dispatcher = new Dispatcher(served.device, headers);
  }

  /** Runs the module's own initialization, and tells its config space. */
  start(options: readonly OptionValue[]): void {
    this.#dispatcher.start(options);
    this.#sendAll();
  }

  /** Tells the device that something it waited for has come. */
  wake(): void {
    this.#dispatcher.wake();
    this.#sendAll();
  }

  /** Waits for a message and serves it, and so on while they are plain, up to `turns`. */
  serve(turns: number): void {
    if (this.#dispatcher.isPlain) this.#pump(turns);
    else this.#receive();
    this.#sendAll();
  }

  #pump(turns: number): void {
    const { pump, device } = this.#served;
    const how = pump.run({ device, socketFd: this.#channel.fd }, turns);
    if (how === DONE) this.#dispatcher.lookAtConfig();
    else if (how !== MESSAGE) {
      if (this.#dispatcher.resume(how)) this.#send();
    } else if (pump.length < 0) {
      this.#receive(); // it knows what the errno means
    } else {
      this.#channel.incoming.set(pump.requests);
      this.#begin(pump.length);
    }
  }

  #receive(): void {
    this.#channel.scatter(this.#dispatcher.receiveAddress, PAYLOAD_BYTES_MAX);
    this.#begin(this.#channel.receive());
  }

  #begin(length: number): void {
    if (length === 0) this.#served.closed();
    this.#dispatcher.begin(length);
  }

  #sendAll(): void {
    while (this.#dispatcher.step()) this.#send();
  }

  #send(): void {
    this.#channel.gather(this.#dispatcher.payloadAddress, this.#dispatcher.payloadBytes);
    if (this.#channel.send() === CLOSED) this.#served.closed();
  }
}
