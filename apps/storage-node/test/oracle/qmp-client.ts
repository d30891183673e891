// A QMP client for tests: replies by id, events in the order of their arrival.
import { connect, type Socket } from 'node:net';

export interface QmpReply {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

export interface QmpEventMessage {
  readonly event: string;
  readonly data?: Record<string, unknown>;
}

/** Whoever waits longer than this has found a hang. */
const REPLY_TIMEOUT_MS = 30_000;
const EVENT_TIMEOUT_MS = 30_000;

export class SilentMonitor extends Error {
  constructor(command: string) {
    super(`no reply to ${command}`);
  }
}

export class QmpClient {
  readonly events: QmpEventMessage[] = [];
  readonly #socket: Socket;
  readonly #replies = new Map<number, (reply: QmpReply) => void>();
  #watchers: (() => void)[] = [];
  #nextId = 1;
  #text = '';
  #end: string | undefined;
  #seen = 0;
  #isGreeted = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /**
   * Connects, tries again while nobody listens, and negotiates. Rejects with a SilentMonitor when whoever greeted does
   * not answer within `answerMs`.
   */
  static async connect(
    path: string,
    isAlive: () => string | undefined,
    answerMs = REPLY_TIMEOUT_MS,
  ): Promise<QmpClient> {
    const deadline = performance.now() + REPLY_TIMEOUT_MS;
    for (;;) {
      const dead = isAlive();
      if (dead !== undefined) throw new Error(dead);
      const socket = await tryConnect(path);
      if (socket === undefined) {
        if (performance.now() > deadline) throw new Error(`nobody listens on ${path}`);
        await new Promise(resolve => setTimeout(resolve, 10));
        continue;
      }
      const client = new QmpClient(socket);
      socket.setEncoding('utf8');
      socket.on('data', (text: string) => client.#receive(text));
      socket.on('close', () => client.#ended('the connection was closed'));
      socket.on('error', error => client.#ended(error.message));
      await client.#greeted(deadline);
      await client.execute('qmp_capabilities', undefined, answerMs);
      return client;
    }
  }

  get ended(): string | undefined {
    return this.#end;
  }

  /** Rejects when the daemon is gone, and with a SilentMonitor when it does not answer in time. */
  execute(command: string, args?: object, answerMs = REPLY_TIMEOUT_MS): Promise<QmpReply> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new SilentMonitor(command)), answerMs);
      const settle = (reply: QmpReply) => {
        clearTimeout(timer);
        this.#replies.delete(id);
        if (reply.error?.class === 'gone') reject(new Error(`${command}: ${reply.error.desc}`));
        else resolve(reply);
      };
      if (this.#end !== undefined) return settle(gone(this.#end));
      this.#replies.set(id, settle);
      this.#socket.write(`${JSON.stringify({ execute: command, ...(args && { arguments: args }), id })}\n`);
    });
  }

  /** Sends bytes as they are. */
  send(text: string): void {
    this.#socket.write(text);
  }

  /**
   * The next event, after those that earlier calls have returned, that `wanted` accepts; events before it are
   * passed over. Rejects when none comes.
   */
  async nextEvent(describe: string, wanted: (event: QmpEventMessage) => boolean): Promise<QmpEventMessage> {
    const deadline = performance.now() + EVENT_TIMEOUT_MS;
    for (;;) {
      while (this.#seen < this.events.length) {
        const event = this.events[this.#seen++]!;
        if (wanted(event)) return event;
      }
      const left = deadline - performance.now();
      if (this.#end !== undefined) throw new Error(`waiting for ${describe}: ${this.#end}`);
      if (left <= 0) {
        throw new Error(`no ${describe} came; last events: ${JSON.stringify(this.events.slice(-8))}`);
      }
      await this.#activity(left);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  /** What is sent before the greeting may be dropped by QEMU. */
  async #greeted(deadline: number): Promise<void> {
    while (!this.#isGreeted) {
      const left = deadline - performance.now();
      if (this.#end !== undefined) throw new Error(`waiting for the greeting: ${this.#end}`);
      if (left <= 0) throw new Error('no greeting came');
      await this.#activity(left);
    }
  }

  async #activity(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>(resolve => {
      timer = setTimeout(resolve, timeoutMs);
      this.#watchers.push(resolve);
    });
    clearTimeout(timer);
  }

  #receive(text: string): void {
    this.#text += text;
    const lines = this.#text.split('\n');
    this.#text = lines.pop()!;
    for (const line of lines) this.#take(JSON.parse(line));
  }

  #take(message: Record<string, unknown>): void {
    if (message.QMP !== undefined) {
      this.#isGreeted = true;
      this.#wake();
    } else if (typeof message.event === 'string') {
      this.events.push({
        event: message.event,
        ...(message.data ? { data: message.data as object } : {}),
      } as QmpEventMessage);
      this.#wake();
    } else if (typeof message.id === 'number') {
      this.#replies.get(message.id)?.(message as QmpReply);
    }
  }

  #ended(why: string): void {
    this.#end ??= why;
    for (const settle of [...this.#replies.values()]) settle(gone(this.#end));
    this.#wake();
  }

  #wake(): void {
    for (const watcher of this.#watchers.splice(0)) watcher();
  }
}

function gone(desc: string): QmpReply {
  return { error: { class: 'gone', desc } };
}

function tryConnect(path: string): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = connect({ path });
    socket.once('connect', () => resolve(socket));
    socket.once('error', () => resolve(undefined));
  });
}
