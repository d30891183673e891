// A storage node as a process of its own, on free ports, for benchmarks and for tests that look at the
// process: started the way `npm start` starts it, ended with its starter.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connectStorageNode, type StorageNodeClients } from '@tidemark/proto';
import { nodeEnvironment } from './node-process.mjs';

const PROGRAM = fileURLToPath(new URL('../../apps/storage-node/src/main.ts', import.meta.url));
const FOLLOW_PARENT = fileURLToPath(new URL('./follow-parent.mjs', import.meta.url));
/** An orderly end stores bitmaps and flushes images: on a busy disk that takes a while. */
const STOP_TIMEOUT_MS = 30_000;

export class StorageNodeProcess {
  readonly clients: StorageNodeClients;
  readonly pid: number;
  readonly stateDir: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, stateDir: string, clients: StorageNodeClients) {
    this.stateDir = stateDir;
    this.#child = child;
    this.pid = child.pid!;
    this.clients = clients;
  }

  /** Resolves once it listens; rejects when it ends before. `flags` are Node.js's own. */
  static async start(options: {
    name: string;
    stateDir: string;
    flags?: readonly string[];
  }): Promise<StorageNodeProcess> {
    const { name, stateDir, flags = [] } = options;
    const child = spawn(process.execPath, [...flags, '--import', FOLLOW_PARENT, PROGRAM], {
      env: nodeEnvironment({
        PATH: process.env.PATH,
        TIDEMARK_NODE_NAME: name,
        TIDEMARK_STATE_DIR: stateDir,
        TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
        TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
      }),
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
    });
    for await (const text of createInterface({ input: child.stdout! })) {
      const line = JSON.parse(text) as { msg: string; control?: string };
      if (line.msg !== 'listening') continue;
      child.stdout!.resume();
      return new StorageNodeProcess(
        child,
        stateDir,
        connectStorageNode({ name, address: String(line.control) }),
      );
    }
    throw new Error(`storage node ${name} ended before it listened`);
  }

  /** The most memory it has had resident so far, in bytes. */
  async peakResidentBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) * 1024;
  }

  /** As a crash ends it: nothing of it runs any more. */
  async kill(): Promise<void> {
    this.clients.close();
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  /** Ends it in order, or by force when that takes too long. Good to repeat. */
  async stop(): Promise<void> {
    this.clients.close();
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }
}
