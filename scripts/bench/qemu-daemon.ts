// qemu-storage-daemon under the control of its QMP monitor on the standard streams: QEMU's own backup job,
// for comparison with ours.

import { createInterface } from 'node:readline';
import { Background } from './program.ts';

const REPLY_TIMEOUT_MS = 120_000;

interface Message {
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: Record<string, unknown>;
}

interface Waiter {
  matches(message: Message): boolean;
  resolve(message: Message): void;
}

export class QemuDaemon {
  readonly #program: Background;
  readonly #waiters = new Set<Waiter>();

  constructor(args: readonly string[]) {
    const monitor = ['--chardev', 'stdio,id=monitor', '--monitor', 'chardev=monitor'];
    this.#program = new Background('qemu-storage-daemon', [...monitor, ...args], 'pipe');
    createInterface({ input: this.#program.child.stdout! }).on('line', line => this.#receive(line));
  }

  /** Ready for commands. */
  async start(): Promise<void> {
    await this.command('qmp_capabilities');
  }

  /** Rejects with what the daemon says is wrong. One command at a time. */
  async command(execute: string, args: object = {}): Promise<void> {
    const reply = this.#next(message => 'return' in message || 'error' in message);
    this.#program.child.stdin!.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    const { error } = await reply;
    if (error !== undefined) throw new Error(`${execute}: ${error.class}: ${error.desc}`);
  }

  /** Creates an image; resolves when it is there. */
  async create(options: object): Promise<void> {
    const id = 'create';
    const concluded = this.#jobState(id, 'concluded');
    await this.command('blockdev-create', { 'job-id': id, options });
    await concluded;
    await this.command('job-dismiss', { id });
  }

  /** A full backup, to its end. Rejects when the job failed. */
  async backUp(options: { device: string; target: string }): Promise<void> {
    const completed = this.#next(message => message.event === 'BLOCK_JOB_COMPLETED');
    await this.command('blockdev-backup', { 'job-id': 'backup', sync: 'full', ...options });
    const { data } = await completed;
    if (data?.error !== undefined) throw new Error(`QEMU's backup failed: ${data.error}`);
  }

  stop(): Promise<void> {
    return this.#program.stop();
  }

  #jobState(id: string, status: string): Promise<Message> {
    return this.#next(
      ({ event, data }) => event === 'JOB_STATUS_CHANGE' && data?.id === id && data.status === status,
    );
  }

  #next(matches: Waiter['matches']): Promise<Message> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error('qemu-storage-daemon did not answer')),
        REPLY_TIMEOUT_MS,
      );
      const waiter: Waiter = {
        matches,
        resolve: message => {
          clearTimeout(timer);
          this.#waiters.delete(waiter);
          resolve(message);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  #receive(line: string): void {
    const message = JSON.parse(line) as Message;
    for (const waiter of [...this.#waiters]) if (waiter.matches(message)) waiter.resolve(message);
  }
}
