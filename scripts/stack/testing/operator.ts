// Somebody who has the `tidemark` command and a disk to write to: the real services in a folder of their own, two
// storage nodes, repository `vault` on beta.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NbdClient } from '@tidemark/nbd';
import { Stack } from '../stack.ts';

const CLI = fileURLToPath(new URL('../../../apps/cli/bin/tidemark.mjs', import.meta.url));
const POLL_MS = 50;
const BACK_MS_MAX = 60_000;
const run = promisify(execFile);

export class Operator {
  readonly stack: Stack;
  readonly #home: string;

  private constructor(home: string, stack: Stack) {
    this.#home = home;
    this.stack = stack;
  }

  /** With volumes of those sizes, such as `8MiB`, on alpha. */
  static async open(volumes: Record<string, string>): Promise<Operator> {
    const home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
    const operator = new Operator(home, new Stack({ home, ports: 'free' }));
    try {
      await operator.stack.start();
      await operator.tidemark('repository', 'create', 'vault', '--storage-node', 'beta');
      for (const [name, size] of Object.entries(volumes)) {
        await operator.tidemark('volume', 'create', name, '--storage-node', 'alpha', '--size', size);
      }
    } catch (error) {
      await operator.close();
      throw error;
    }
    return operator;
  }

  async close(): Promise<void> {
    await this.stack.stop();
    rmSync(this.#home, { recursive: true, force: true });
  }

  /** What it prints; rejects with exit status and what it says when it fails. */
  async tidemark(...args: string[]): Promise<string> {
    const { stdout } = await run(process.execPath, [CLI, '--url', this.stack.url, ...args]);
    return stdout;
  }

  // biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests look at
  async json(...args: string[]): Promise<any> {
    return JSON.parse(await this.tidemark('--json', ...args));
  }

  /** The answer, with run and backup. */
  backUp(volume: string, checkpoint: string, kind: string, ...more: string[]) {
    const place = ['--volume', volume, '--repository', 'vault', '--checkpoint', checkpoint];
    return this.json('backup', 'create', ...place, '--kind', kind, ...more);
  }

  async exportUri(volume: string): Promise<string> {
    return (await this.json('volume', 'show', volume)).exportUri;
  }

  async guest<T>(volume: string, act: (client: NbdClient) => Promise<T>): Promise<T> {
    const client = await NbdClient.connect({ uri: await this.exportUri(volume) });
    try {
      return await act(client);
    } finally {
      await client.disconnect();
    }
  }

  /** Durably. */
  write(volume: string, offset: number, bytes: Buffer): Promise<void> {
    return this.guest(volume, async client => {
      await client.write(offset, bytes);
      await client.flush();
    });
  }

  contents(volume: string): Promise<Buffer> {
    return this.guest(volume, async client => {
      const bytes = Buffer.alloc(client.sizeBytes);
      await client.read(0, bytes);
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
    const { repositoryId, fileName } = await this.json('backup', 'show', backupId);
    return join(this.stateDir('beta'), 'repositories', repositoryId, fileName);
  }

  /** With -9. Resolves when it runs again. */
  async kill(service: string): Promise<void> {
    const victim = this.stack.services.get(service)!;
    const { pid } = victim;
    if (pid === null) throw new Error(`${service} does not run`);
    process.kill(pid, 'SIGKILL');
    const deadline = performance.now() + BACK_MS_MAX;
    while (victim.pid === null || victim.pid === pid) {
      if (performance.now() > deadline) throw new Error(`${service} does not come back`);
      await delay(POLL_MS);
    }
  }
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
