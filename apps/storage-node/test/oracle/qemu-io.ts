// A guest: one qemu-io process on an NBD export, fed line by line.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';

const PROMPT = 'qemu-io> ';
const COMMAND_TIMEOUT_MS = 60_000;

export class QemuIo {
  readonly #process: ChildProcessWithoutNullStreams;
  #text = '';
  #waiting: (() => void) | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(uri: string, readOnly: boolean) {
    const options = ['-f', 'raw', ...(readOnly ? ['-r'] : []), '--cache', 'writeback', '-d', 'unmap'];
    this.#process = spawn('qemu-io', [...options, uri]);
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        this.#text += text;
        this.#waiting?.();
      });
    }
    this.#process.on('exit', () => this.#waiting?.());
    this.#process.stdin.on('error', () => undefined);
  }

  static async open(uri: string, options: { readOnly?: boolean } = {}): Promise<QemuIo> {
    const io = new QemuIo(uri, options.readOnly ?? false);
    await io.#output('opening');
    return io;
  }

  /** What the command printed, without the times. Commands of one guest run one after the other. */
  run(command: string): Promise<string> {
    const done = this.#queue.then(async () => {
      this.#process.stdin.write(`${command}\n`);
      return withoutTimes(await this.#output(command));
    });
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async close(): Promise<void> {
    await this.#queue;
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, 'exit');
    this.#process.stdin.end('quit\n');
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 5000);
    await exit;
    clearTimeout(timer);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  async #output(what: string): Promise<string> {
    const deadline = performance.now() + COMMAND_TIMEOUT_MS;
    while (!this.#text.endsWith(PROMPT)) {
      if (this.#process.exitCode !== null) throw new Error(`qemu-io ended at '${what}': ${this.#text}`);
      const left = deadline - performance.now();
      if (left <= 0) throw new Error(`qemu-io hangs at '${what}': ${this.#text}`);
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>(resolve => {
        this.#waiting = resolve;
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
    const text = this.#text.slice(0, -PROMPT.length);
    this.#text = '';
    return text;
  }
}

/** `64 KiB, 1 ops; 00.00 sec (…)` tells nothing about the disk. */
function withoutTimes(text: string): string {
  return text.replaceAll(/^.* ops; .*\n/gm, '').trim();
}
