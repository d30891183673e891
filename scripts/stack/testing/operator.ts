// What operators have, on the real services in a folder of their own: the `tidemark` command, the REST API, and guests
// whose disks are volumes on alpha. Repository `vault` is on beta.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NbdClient } from '@tidemark/nbd';
import { RestClient, type Run } from '../../demo/rest-client.ts';
import { Stack, type StackOptions } from '../stack.ts';

const CLI = fileURLToPath(new URL('../../../apps/cli/bin/tidemark.mjs', import.meta.url));
/** Shorter than the pause before a service is started again. */
const POLL_MS = 5;
const HEARD_POLL_MS = 50;
const BACK_MS_MAX = 60_000;
const run = promisify(execFile);

// biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests look at
export type Answer = any;

/** What a command said that failed. */
export interface Refusal {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Of a disk, in bytes from its start. */
export interface Piece {
  readonly offset: number;
  readonly bytes: Buffer;
}

export interface OperatorOptions {
  /** Names of the storage nodes; without beta there is no vault. */
  readonly nodes?: readonly string[];
  /** Of the vault, as its command takes them. */
  readonly vault?: readonly string[];
  /** How many of each; the queue, if it is not in the stack's PostgreSQL; more settings of the services. */
  readonly stack?: Pick<StackOptions, 'apis' | 'workers' | 'queueUrl' | 'environment' | 'environmentOf'>;
}

export class Operator {
  readonly stack: Stack;
  readonly #rest: RestClient;

  private constructor(stack: Stack) {
    this.stack = stack;
    this.#rest = new RestClient(stack.url, new AbortController().signal);
  }

  /** With volumes of those sizes, such as `8MiB`. */
  static async open(volumes: Record<string, string> = {}, options: OperatorOptions = {}): Promise<Operator> {
    const { nodes = ['alpha', 'beta'], vault = [] } = options;
    const home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
    const stack = new Stack({ home, ports: 'free', nodes, ...options.stack });
    try {
      await stack.start();
      const operator = new Operator(stack);
      if (nodes.includes('beta')) {
        await operator.tidemark('repository', 'create', 'vault', '--storage-node', 'beta', ...vault);
      }
      for (const [name, size] of Object.entries(volumes)) await operator.createVolume(name, size);
      return operator;
    } catch (error) {
      await stack.stop();
      rmSync(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** Afterwards nothing runs, and nothing is left on disk. */
  async close(): Promise<void> {
    await this.stack.stop();
    rmSync(this.stack.home, { recursive: true, force: true });
  }

  /** What the command prints; rejects with a `Refusal` when it fails. */
  async tidemark(...args: string[]): Promise<string> {
    const { stdout } = await run(process.execPath, [CLI, '--url', this.stack.url, ...args]);
    return stdout;
  }

  async json(...args: string[]): Promise<Answer> {
    return JSON.parse(await this.tidemark('--json', ...args));
  }

  /** Rejects when the command does not fail. */
  refusal(...args: string[]): Promise<Refusal> {
    return this.tidemark(...args).then(
      out => Promise.reject(new Error(`it did not fail: ${out}`)),
      (error: Refusal) => error,
    );
  }

  /** Rejects with the problem as text. */
  get(path: string): Promise<Answer> {
    return this.#rest.get(`/v1/${path}`);
  }

  /** Waits for the run's end, or for what `wait` says; rejects with the problem as text. */
  post(path: string, body?: object, wait: 'accepted' | 'checkpoint' | 'done' = 'done'): Promise<Answer> {
    return this.#rest.post(`/v1/${path}`, body, wait);
  }

  /** Rejects when the run does not succeed. */
  ended(runId: string): Promise<Run> {
    return this.#rest.follow(runId, () => {});
  }

  async createVolume(name: string, size: string, node = 'alpha', ...more: string[]): Promise<void> {
    await this.tidemark('volume', 'create', name, '--storage-node', node, '--size', size, ...more);
  }

  /** The answer, with run and backup. */
  backUp(volume: string, checkpoint: string, kind: string, ...more: string[]): Promise<Answer> {
    const place = ['--volume', volume, '--repository', 'vault', '--checkpoint', checkpoint];
    return this.json('backup', 'create', ...place, '--kind', kind, ...more);
  }

  /** The digest of what a backup holds, restored to a new volume of that name. */
  async restored(backupId: string, name: string): Promise<string> {
    await this.post('restores', { backup: backupId, target: { volume: { name, storageNode: 'alpha' } } });
    return this.digest(name);
  }

  async exportUri(volume: string): Promise<string> {
    return (await this.get(`volumes/${volume}`)).exportUri;
  }

  async guest<T>(volume: string, act: (guest: NbdClient) => Promise<T>): Promise<T> {
    const guest = await NbdClient.connect({ uri: await this.exportUri(volume) });
    try {
      return await act(guest);
    } finally {
      await guest.disconnect();
    }
  }

  /** Durably. */
  write(volume: string, offset: number, bytes: Buffer): Promise<void> {
    return this.writeAll(volume, [{ offset, bytes }]);
  }

  /** In this order, and then durably. */
  writeAll(volume: string, pieces: readonly Piece[]): Promise<void> {
    return this.guest(volume, async guest => {
      for (const { offset, bytes } of pieces) await guest.write(offset, bytes);
      await guest.flush();
    });
  }

  /** Of a small disk. */
  contents(volume: string): Promise<Buffer> {
    return this.guest(volume, async guest => {
      const bytes = Buffer.alloc(guest.sizeBytes);
      await guest.read(0, bytes);
      return bytes;
    });
  }

  async digest(volume: string): Promise<string> {
    return digestOf(await this.contents(volume));
  }

  stateDir(node: string): string {
    return this.stack.nodes.find(({ name }) => name === node)!.stateDir;
  }

  async imagePath(backupId: string): Promise<string> {
    const { repositoryId, fileName } = await this.get(`backups/${backupId}`);
    return join(this.stateDir('beta'), 'repositories', repositoryId, fileName);
  }

  /** With -9. Resolves when it runs again. */
  async kill(service: string): Promise<void> {
    const isBack = await this.bringDown(service);
    await isBack();
  }

  /** With -9. Resolves when it is gone, with what waits until it runs again. */
  async bringDown(service: string): Promise<() => Promise<void>> {
    const victim = this.stack.services.get(service)!;
    const { pid } = victim;
    if (pid === null) throw new Error(`${service} does not run`);
    process.kill(pid, 'SIGKILL');
    while (victim.pid === pid) await delay(POLL_MS);
    return async () => {
      const deadline = performance.now() + BACK_MS_MAX;
      while (victim.pid === null) {
        if (performance.now() > deadline) throw new Error(`${service} does not come back`);
        await delay(POLL_MS);
      }
    };
  }

  /**
   * Resolves when the catalog has heard from every storage node since now. What it heard before says nothing: it
   * learns within seconds that one is gone, also when that is back by then, and refuses requests until it has heard.
   */
  async nodesAreOnline(): Promise<void> {
    const now = Date.now();
    const deadline = performance.now() + BACK_MS_MAX;
    for (;;) {
      const { items } = await this.get('storage-nodes');
      const isHeardOf = ({ state, lastSeenAt }: Answer) => state === 'online' && Date.parse(lastSeenAt) > now;
      if (items.every(isHeardOf)) return;
      if (performance.now() > deadline) throw new Error('a storage node is not heard of again');
      await delay(HEARD_POLL_MS);
    }
  }
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
