// What the tests of single faults share: the real services, one disk on alpha with a guest that writes, a repository
// elsewhere, and what follows from the guest's model about a backup.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeededRandom } from '../../../packages/engine/src/testing/seeded-random.ts';
import { Stack, type StackOptions } from '../../stack/stack.ts';
import { readImage } from '../contents.ts';
import { DiskModel, describeFaults, type Window } from '../disk-model.ts';
import { Guest } from '../guest.ts';
import { DISK_BLOCKS, DISK_BYTES, POLL_MS } from '../limits.ts';
import { type Answer, Rest, type RunJson } from '../rest.ts';

const ONLINE_MS_MAX = 30_000;

export function temporaryHome(): string {
  return mkdtempSync(join(tmpdir(), 'tidemark-home-'));
}

export class OneDisk {
  readonly home: string;
  readonly #options: Partial<StackOptions>;
  stack!: Stack;
  rest!: Rest;
  guest!: Guest;

  private constructor(home: string, options: Partial<StackOptions>) {
    this.home = home;
    this.#options = options;
  }

  /** Starts the services in a folder that goes with `close`. */
  static async open(options: Partial<StackOptions> & { home?: string } = {}): Promise<OneDisk> {
    const disk = new OneDisk(options.home ?? temporaryHome(), options);
    await disk.startServices();
    return disk;
  }

  async startServices(): Promise<void> {
    const { home } = this;
    this.stack = new Stack({
      ports: 'free',
      ...this.#options,
      home,
      environment: { TIDEMARK_WORKER_LEASE_MS: '3000', ...this.#options.environment },
    });
    await this.stack.start();
    this.rest = new Rest(this.stack.urls);
    await this.#nodesAreOnline();
  }

  /** The catalog may know of them from before, and not have heard that they are back. */
  async #nodesAreOnline(): Promise<void> {
    const deadline = performance.now() + ONLINE_MS_MAX;
    for (;;) {
      const states = (await this.rest.list('storage-nodes')).map(({ state }) => state);
      if (states.length === this.stack.nodes.length && states.every(state => state === 'online')) return;
      if (performance.now() > deadline) throw new Error(`the storage nodes are ${states.join(', ')}`);
      await delay(POLL_MS);
    }
  }

  /** Makes repository `vault` and volume `disk`, and lets its guest write. */
  async furnish({ vaultOn, format = 'raw' }: { vaultOn: string; format?: 'raw' | 'qcow2' }): Promise<void> {
    await this.rest.make('repositories', { name: 'vault', storageNode: vaultOn });
    const wanted = { name: 'disk', storageNode: 'alpha', sizeBytes: DISK_BYTES, format };
    const { volume } = await this.rest.make('volumes', wanted);
    const model = new DiskModel(DISK_BLOCKS);
    this.guest = new Guest({ uri: volume.exportUri, model, random: new SeededRandom(5) });
    this.guest.move();
    await this.guest.start();
  }

  /** Asks for a backup of now; `more` as the api takes it. */
  backUp(checkpoint: string, more: object = {}, wait = 'done'): Promise<Answer> {
    const body = { volume: 'disk', repository: 'vault', kind: 'full', checkpoint, ...more };
    return this.rest.call('POST', `backups?wait=${wait}&waitTimeoutMs=60000`, body);
  }

  /** Rejects when it does not end in time. */
  async end(runId: string, patienceMs: number): Promise<RunJson> {
    const run = await this.rest.follow(runId, () => {}, patienceMs);
    if (run === undefined) throw new Error(`run ${runId} does not end within ${patienceMs} ms`);
    return run;
  }

  /** Undefined when the image holds what the guest's disk held within the window. */
  async faultOf(path: string, window: Window, guest = this.guest): Promise<string | undefined> {
    const faults = guest.model.judge(
      await readImage(path, path.endsWith('.qcow2') ? 'qcow2' : 'raw'),
      window,
    );
    return faults.length === 0 ? undefined : describeFaults(faults);
  }

  /** Of the repository, on the storage node with that state directory. */
  async backupPath(stateDir: string, backupId: string): Promise<string> {
    const [repository] = await this.rest.list('repositories');
    const { fileName } = await this.rest.read(`backups/${backupId}`);
    return join(stateDir, 'repositories', repository.id, fileName);
  }

  async close(): Promise<void> {
    await this.guest?.close();
    await this.stack.stop();
    rmSync(this.home, { recursive: true, force: true });
  }
}
