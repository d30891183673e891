// A client that sends bytes as they are, and sees everything that the monitor says.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Session } from './session.ts';

const REPLY_TIMEOUT_MS = 30_000;

type Message = Record<string, unknown>;

export class RawMonitor {
  readonly #session: Session;
  readonly #socket: Socket;
  readonly #messages: Message[] = [];
  #text = '';
  #markers = 0;
  #wake: () => void = () => undefined;

  private constructor(session: Session, path: string) {
    this.#session = session;
    this.#socket = connect({ path });
    this.#socket.setEncoding('utf8');
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => this.#wake());
    this.#socket.on('data', (text: string) => this.#receive(text));
  }

  /** Takes the place of the session's own client: QEMU serves one at a time. Traces the greeting. */
  static async replace(session: Session): Promise<RawMonitor> {
    session.daemon.qmp.close();
    return RawMonitor.open(session, session.daemon.socket);
  }

  static async open(session: Session, path: string): Promise<RawMonitor> {
    const monitor = new RawMonitor(session, path);
    const greeting = await monitor.#next('the greeting');
    session.note('greeting', withoutVersion(greeting));
    return monitor;
  }

  async negotiate(): Promise<void> {
    await this.exchange('{"execute":"qmp_capabilities"}');
  }

  /** Sends, and traces all that is said until a command that comes after it is answered. */
  async exchange(input: string | Buffer): Promise<Message[]> {
    const marker = `marker-${this.#markers++}`;
    this.#socket.write(input);
    // The zero byte ends whatever the input has begun; the fault that it makes is the same on both sides.
    this.#socket.write(`\0\n${JSON.stringify({ execute: 'no-such-command', id: marker })}`);
    const replies: Message[] = [];
    for (;;) {
      const message = await this.#next(`a reply to ${String(input).slice(0, 100)}`);
      if (message.id === marker) break;
      replies.push(withoutVersion(message));
    }
    this.#session.note(`raw ${String(input).slice(0, 200)}`, replies);
    return replies;
  }

  send(input: string): void {
    this.#socket.write(input);
  }

  /** Ends the daemon, which the session cannot do any more without its client. */
  async quit(): Promise<void> {
    const closed = once(this.#socket, 'close');
    this.#socket.write('{"execute":"quit"}');
    await closed;
  }

  async close(): Promise<void> {
    const closed = once(this.#socket, 'close');
    this.#socket.destroy();
    await closed;
  }

  async #next(what: string): Promise<Message> {
    const timer = setTimeout(() => this.#socket.destroy(), REPLY_TIMEOUT_MS);
    while (this.#messages.length === 0) {
      if (this.#socket.destroyed) throw new Error(`${this.#session.side}: ${what} did not come`);
      await new Promise<void>(resolve => {
        this.#wake = resolve;
      });
    }
    clearTimeout(timer);
    return this.#messages.shift()!;
  }

  #receive(text: string): void {
    this.#text += text;
    const lines = this.#text.split('\n');
    this.#text = lines.pop()!;
    for (const line of lines) this.#messages.push(parseMessage(line));
    this.#wake();
  }
}

/** Integers stay as they are written. */
function parseMessage(line: string): Message {
  return JSON.parse(line, (_key, value, context?: { source?: string }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) ? `number ${context?.source}` : value,
  ) as Message;
}

/** Which program it is, and when something happened, are the only things that may differ. */
function withoutVersion(message: Message): Message {
  const text = JSON.stringify(message, (key, value) =>
    key === 'qemu' || key === 'package' || key === 'timestamp' ? null : value,
  );
  return JSON.parse(text) as Message;
}
