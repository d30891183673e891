// A storage daemon under test: QEMU's or ours, in a folder of its own, driven by QMP.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { QmpClient, SilentMonitor } from './qmp-client.ts';

export type Side = 'qemu' | 'tidemark';

const OURS = fileURLToPath(new URL('../../src/qmp/daemon-main.ts', import.meta.url));
/** A daemon that does not end within this time after `quit` hangs. */
const QUIT_TIMEOUT_MS = 15_000;
/**
 * One start in some thousands of QEMU 7.2 ends with a monitor that greets and never answers, whatever is sent to it.
 * Nothing has been asked of it by then, so another one is started.
 */
const QEMU_STARTS = 3;
const QEMU_FIRST_ANSWER_MS = 5_000;

export interface DaemonOptions {
  readonly side: Side;
  /** For its sockets. */
  readonly folder: string;
  /** More of the command line. */
  readonly args?: readonly string[];
  /** Modules that our daemon loads before anything else. */
  readonly imports?: readonly string[];
}

/** The program and what comes before its arguments. */
export function programOf(side: Side, nodeOptions: readonly string[] = []): [string, readonly string[]] {
  if (side === 'qemu') return ['qemu-storage-daemon', []];
  return [process.execPath, [...nodeOptions, '--no-warnings', OURS]];
}

export class Daemon {
  readonly side: Side;
  readonly socket: string;
  qmp!: QmpClient;
  readonly #process: ChildProcess;
  #complaints = '';

  private constructor(options: DaemonOptions) {
    this.side = options.side;
    this.socket = join(options.folder, 'qmp.sock');
    const monitor = ['--chardev', `socket,path=${this.socket},server=on,wait=off,id=m`, '--monitor', 'm'];
    const args = [...(options.args ?? []), ...monitor];
    const imports = (options.imports ?? []).flatMap(module => ['--import', module]);
    const [program, first] = programOf(options.side, imports);
    this.#process = spawn(program, [...first, ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, UV_THREADPOOL_SIZE: '8' },
    });
    this.#process.stderr!.setEncoding('utf8');
    this.#process.stderr!.on('data', (text: string) => {
      this.#complaints = (this.#complaints + text).slice(-4000);
    });
  }

  /** Resolves once it has answered. */
  static async start(options: DaemonOptions): Promise<Daemon> {
    for (let start = 1; ; start++) {
      const isLast = options.side !== 'qemu' || start === QEMU_STARTS;
      const daemon = new Daemon(options);
      try {
        const answerMs = isLast ? undefined : QEMU_FIRST_ANSWER_MS;
        daemon.qmp = await QmpClient.connect(daemon.socket, () => daemon.death, answerMs);
        return daemon;
      } catch (error) {
        await daemon.kill();
        if (isLast || !(error instanceof SilentMonitor)) throw error;
      }
    }
  }

  /** A further client of the same monitor socket. */
  connect(): Promise<QmpClient> {
    return QmpClient.connect(this.socket, () => this.death);
  }

  get pid(): number {
    return this.#process.pid!;
  }

  get complaints(): string {
    return this.#complaints;
  }

  /** How it ended; undefined while it runs. */
  get death(): string | undefined {
    const { exitCode, signalCode } = this.#process;
    if (exitCode === null && signalCode === null) return undefined;
    return `${this.side} ended with ${signalCode ?? exitCode}: ${this.#complaints}`;
  }

  /** Asks it to quit and waits; rejects when it crashes or hangs. */
  async quit(): Promise<void> {
    if (this.death === undefined) await this.qmp.execute('quit').catch(() => undefined);
    await this.ended();
  }

  /** Waits for its end, which must be an orderly one. */
  async ended(): Promise<void> {
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), QUIT_TIMEOUT_MS);
    if (this.death === undefined) await once(this.#process, 'exit');
    clearTimeout(timer);
    this.qmp.close();
    if (this.#process.exitCode !== 0) throw new Error(`a crash or a hang: ${this.death}`);
  }

  async kill(): Promise<void> {
    this.qmp?.close();
    if (this.death !== undefined) return;
    const exit = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exit;
  }
}
