// A Redis that the services have as their queue: a process of the installation like the others, which is started again
// when it ends, with what it had or, once, without.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../process/ports.mjs';
import { QUEUE_AWAY_MS } from './limits.ts';

export function redisIsInstalled(): boolean {
  return spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;
}

export class QueueServer {
  readonly url: string;
  readonly #folder: string;
  readonly #port: number;
  readonly #stopping = new AbortController();
  #child: ChildProcess | undefined;
  #ended: Promise<unknown> = Promise.resolve();
  #losesData = false;

  private constructor(folder: string, port: number) {
    this.#folder = folder;
    this.#port = port;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Its files and its log are in that folder, which is made. Resolves as soon as it has been started. */
  static async start(folder: string): Promise<QueueServer> {
    const server = new QueueServer(folder, await freePort());
    server.#spawn();
    return server;
  }

  /** Undefined while it does not run. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** When it ends the next time, all that it knew goes with it. */
  loseData(): void {
    this.#losesData = true;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#child?.kill('SIGKILL');
    await this.#ended;
  }

  #spawn(): void {
    const data = join(this.#folder, 'data');
    mkdirSync(data, { recursive: true });
    const log = openSync(join(this.#folder, 'redis.log'), 'a');
    const settings = ['--port', `${this.#port}`, '--bind', '127.0.0.1', '--dir', data, '--save', ''];
    // What was written before it answers outlives its process.
    const child = spawn('redis-server', [...settings, '--appendonly', 'yes', '--appendfsync', 'no'], {
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#child = child;
    this.#ended = once(child, 'exit').then(() => {
      this.#child = undefined;
      if (!this.#stopping.signal.aborted) void this.#comeBack(data);
    });
  }

  async #comeBack(data: string): Promise<void> {
    if (this.#losesData) rmSync(data, { recursive: true, force: true });
    this.#losesData = false;
    try {
      await delay(QUEUE_AWAY_MS, undefined, { signal: this.#stopping.signal });
      this.#spawn();
    } catch {
      // stopped while it was away
    }
  }
}
