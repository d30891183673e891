// Goal: an operator moves a volume to another storage node under a guest that writes; the guest finds it there with
// every acknowledged byte, the next backup is an increment with the right bytes, and whatever is killed on the way, one
// storage node serves the volume and nothing is left over. Method: the real services in a temporary home, the real
// command, a guest that connects anew to wherever the API says the volume is.
import { randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type Answer, Operator } from './testing/operator.ts';

const MiB = 1024 * 1024;
const BLOCK = 4096;
const VOLUME_BYTES = 16 * MiB;

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open({ disk: '16MiB', crashed: '16MiB' });
}, 240_000);
afterAll(() => operator?.close());

/** Writes block after block of its own volume; a write that broke off is sent again once it is connected again. */
class Writer {
  readonly model = Buffer.alloc(VOLUME_BYTES);
  readonly #volume: string;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  acknowledged = 0;

  constructor(volume: string) {
    this.#volume = volume;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let n = 0; !this.#stop.signal.aborted; n++) {
      const offset = ((n * 37) % (VOLUME_BYTES / BLOCK)) * BLOCK;
      await this.#write(offset, randomBytes(BLOCK));
      this.acknowledged += 1;
    }
    this.#client?.destroy();
  }

  #client: NbdClient | undefined;

  async #write(offset: number, data: Buffer): Promise<void> {
    for (;;) {
      try {
        this.#client ??= await NbdClient.connect({ uri: await operator.exportUri(this.#volume) });
        await this.#client.write(offset, data);
        data.copy(this.model, offset);
        return;
      } catch (error) {
        this.#client?.destroy();
        this.#client = undefined;
        if (this.#stop.signal.aborted) throw error;
        await new Promise(resolve => setTimeout(resolve, 20));
      }
    }
  }
}

let writer: Writer | undefined;
afterEach(async () => {
  await writer?.stop();
  writer = undefined;
});

const folder = (node: string, volumeId: string) => join(operator.stateDir(node), 'volumes', volumeId);
const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

async function contentsEqual(volume: string, model: Buffer): Promise<void> {
  expect((await operator.contents(volume)).equals(model)).toBe(true);
}

test('a volume moves under its guest, and the next backup is an increment', {
  timeout: 180_000,
}, async () => {
  writer = new Writer('disk');
  writer.start();
  await expect.poll(() => writer!.acknowledged, { timeout: 60_000 }).toBeGreaterThan(100);
  await operator.backUp('disk', 'mon', 'full');
  const before: Answer = await operator.get('volumes/disk');
  const answer = await operator.json('volume', 'move', 'disk', '--to', 'beta');
  expect(answer.run).toMatchObject({ kind: 'move-volume', state: 'succeeded' });
  expect(answer.volume).toMatchObject({ id: before.id, name: 'disk', storageNode: 'beta', state: 'ready' });
  expect(answer.volume.exportUri).not.toBe(before.exportUri);
  const then = writer.acknowledged;
  await expect.poll(() => writer!.acknowledged, { timeout: 60_000 }).toBeGreaterThan(then + 100);
  await writer.stop();

  const { items } = await operator.get(`events?limit=500`);
  const told = items.find(({ kind }: { kind: string }) => kind === 'volume-moved');
  expect(told).toMatchObject({
    subjectId: before.id,
    data: { from: 'alpha', to: 'beta', exportUri: answer.volume.exportUri },
  });
  expect(await isThere(folder('alpha', before.id))).toBe(false);
  expect(await isThere(folder('beta', before.id))).toBe(true);
  await contentsEqual('disk', writer.model);
  const { backup } = await operator.backUp('disk', 'tue', 'incremental');
  expect(backup).toMatchObject({ kind: 'incremental' });
  expect(backup.reason).toContain("'mon'");
  await operator.restored(backup.id, 'disk-tue');
  await contentsEqual('disk-tue', writer.model);
  expect(await operator.tidemark('reconcile')).toBe('compared 2 storage nodes: 0 repaired, 0 open\n');
});

test('a move is refused where something relies on the volume, with the reason', async () => {
  expect((await operator.refusal('volume', 'move', 'disk', '--to', 'beta')).stderr).toContain(
    "is on storage node 'beta' already",
  );
  await operator.tidemark('snapshot', 'create', 'disk', 'before-upgrade');
  expect((await operator.refusal('volume', 'move', 'disk', '--to', 'alpha')).stderr).toContain(
    "'before-upgrade'",
  );
  expect((await operator.get('volumes/disk')).state).toBe('ready');
});

test.each(['alpha', 'beta', 'worker'])(
  'whenever %s is killed during a move, one storage node serves the volume, whole',
  { timeout: 240_000 },
  async victim => {
    writer = new Writer('crashed');
    writer.start();
    for (let round = 0; round < 2; round++) {
      const before: Answer = await operator.get('volumes/crashed');
      const to = before.storageNode === 'alpha' ? 'beta' : 'alpha';
      const { run } = await operator.post('volumes/crashed/move', { storageNode: to }, 'accepted');
      // At different places of the run: what matters is that any of them is as good.
      await new Promise(resolve => setTimeout(resolve, 200 * round));
      await operator.kill(victim);
      await operator.nodesAreOnline();
      const ended = await operator.ended(run.id).catch((error: unknown) => error);
      const after: Answer = await operator.get('volumes/crashed');
      expect(after.state, String(ended)).toBe('ready');
      const then = writer.acknowledged;
      await expect.poll(() => writer!.acknowledged, { timeout: 60_000 }).toBeGreaterThan(then);
      await operator.tidemark('reconcile');
      const other = after.storageNode === 'alpha' ? 'beta' : 'alpha';
      await expect.poll(() => isThere(folder(other, before.id)), { timeout: 60_000 }).toBe(false);
    }
    await writer.stop();
    await contentsEqual('crashed', writer.model);
  },
);
