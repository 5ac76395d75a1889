// A client of a control socket that says whatever the test wants.

import net from "node:net";

/** One conversation. */
export class RawClient {
  readonly socket: net.Socket;
  /** Everything that was said to it. */
  text = "";
  readonly closed: Promise<void>;
  #waiting: (() => void)[] = [];

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => {
      this.text += text;
      for (const wake of this.#waiting.splice(0)) wake();
    });
    socket.on("error", () => {});
    socket.on("end", () => socket.end());
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        for (const wake of this.#waiting.splice(0)) wake();
        resolve();
      });
    });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = net.connect({ path, allowHalfOpen: true });
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new RawClient(socket);
  }

  /** Says `text` as it is. */
  say(text: string): void {
    this.socket.write(text);
  }

  /** The next line said to it, or undefined when there will be none. */
  async line(): Promise<string | undefined> {
    for (;;) {
      const end = this.text.indexOf("\n");
      if (end !== -1) {
        const line = this.text.slice(0, end);
        this.text = this.text.slice(end + 1);
        return line;
      }
      if (this.socket.destroyed || this.socket.readableEnded) return undefined;
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        this.socket.once("end", resolve);
      });
    }
  }

  /** The answer to `request`, as it was said. */
  async ask(request: unknown): Promise<Record<string, unknown>> {
    this.say(`${JSON.stringify(request)}\n`);
    return JSON.parse((await this.line()) ?? "{}") as Record<string, unknown>;
  }

  close(): void {
    this.socket.destroy();
  }
}

/** One request in a conversation of its own. */
export async function askOnce(
  path: string,
  request: string,
  details: object = {},
): Promise<Record<string, unknown>> {
  const client = await RawClient.connect(path);
  const answer = await client.ask({ id: 1, request, ...details });
  client.close();
  return answer;
}

/** Waits until a VM answers at `path`: its file is there before somebody listens. */
export async function untilServed(path: string): Promise<void> {
  for (;;) {
    try {
      await askOnce(path, "status");
      return;
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (!["ENOENT", "ECONNREFUSED"].includes(code)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
