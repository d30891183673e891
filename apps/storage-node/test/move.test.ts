// Goal: a volume moves to another storage node while its guest writes, with every byte and every bit of its bitmaps;
// and whatever fails or restarts on the way, one of the two serves it, and nothing half-made stays. Method: two
// storage nodes over gRPC, a guest that knows what it was told is written, and a model of what changed when.
import { randomBytes, randomUUID } from 'node:crypto';
import { access } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import type { ArrivingCheckpoint, Volume } from '@tidemark/proto';
import { describe, expect, it } from 'vitest';
import { MiB } from '../src/testing/backups.ts';
import { granulesOf } from '../src/testing/checkpoint-model.ts';
import { BackupPair, createVolume, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

const GRANULE = 64 * 1024;
const VOLUME_BYTES = 16 * MiB;

async function untilReady(node: RunningStorageNode, jobId: string): Promise<void> {
  for await (const { state } of node.clients.watchJob({ jobId })) if (state === 'ready') return;
  throw new Error(`${jobId} never became ready`);
}

class Move {
  readonly source: RunningStorageNode;
  readonly target: RunningStorageNode;
  readonly volume: Volume;
  readonly runId = randomUUID();
  imageUri = '';
  bitmapsUri = '';
  jobId = '';

  constructor(source: RunningStorageNode, target: RunningStorageNode, volume: Volume) {
    this.source = source;
    this.target = target;
    this.volume = volume;
  }

  static async make(options: Partial<Volume> = {}): Promise<Move> {
    const source = await RunningStorageNode.start();
    const target = await RunningStorageNode.start();
    return new Move(source, target, await createVolume(source, { sizeBytes: VOLUME_BYTES, ...options }));
  }

  get volumeId(): string {
    return this.volume.volumeId;
  }

  step(name: string) {
    return newStep({ runId: this.runId, step: name });
  }

  async prepare(): Promise<void> {
    const { volumeId, name, sizeBytes, format } = this.volume;
    const wanted = { step: this.step('prepare'), volumeId, name, sizeBytes, format, allocatedBytes: 1 };
    const { imageUri, bitmapsUri } = await this.target.clients.volumes.prepareArrival(wanted);
    Object.assign(this, { imageUri, bitmapsUri });
  }

  async start(): Promise<void> {
    const { volumeId, imageUri } = this;
    const started = this.source.clients.volumes.startMove({ step: this.step('start'), volumeId, imageUri });
    this.jobId = (await started).jobId;
    await untilReady(this.source, this.jobId);
  }

  seal() {
    const { volumeId, bitmapsUri } = this;
    return this.source.clients.volumes.sealVolume({ step: this.step('seal'), volumeId, bitmapsUri });
  }

  unseal() {
    const { volumeId } = this;
    return this.source.clients.volumes.unsealVolume({ step: this.step('unseal'), volumeId });
  }

  accept(sealed: { createdAtMs: number; checkpoints: ArrivingCheckpoint[] }) {
    const step = this.step('accept');
    return this.target.clients.volumes.acceptArrival({ step, volumeId: this.volumeId, ...sealed });
  }

  open() {
    return this.target.clients.volumes.openArrival({ step: this.step('open'), volumeId: this.volumeId });
  }

  leave(node: RunningStorageNode) {
    return node.clients.volumes.deleteVolume({ step: newStep(), volumeId: this.volumeId });
  }

  async whole(): Promise<Volume> {
    await this.prepare();
    await this.start();
    await this.accept(await this.seal());
    const moved = await this.open();
    await this.leave(this.source);
    return moved;
  }

  async addCheckpoint(node: RunningStorageNode, name: string): Promise<string> {
    const checkpointId = randomUUID();
    const { volumeId } = this;
    const wanted = { step: newStep(), volumeId, checkpointId, name, description: `of ${name}` };
    await node.clients.checkpoints.createCheckpoint(wanted);
    return checkpointId;
  }

  async changed(node: RunningStorageNode, sinceCheckpointId: string): Promise<number[]> {
    const parts = [];
    const { volumeId } = this;
    for await (const part of node.clients.listChangedBlocks({ volumeId, sinceCheckpointId }))
      parts.push(part);
    return granulesOf(parts, this.volume.sizeBytes);
  }
}

/** Writes until it is cut off; what was acknowledged is in the model, what was not may be or not. */
class Guest {
  readonly model: Buffer;
  readonly unsure: { offset: number; data: Buffer }[] = [];
  readonly granules = new Set<number>();
  #writes = 0;

  constructor(model: Buffer) {
    this.model = model;
  }

  get writes(): number {
    return this.#writes;
  }

  async writeUntilCut(uri: string): Promise<void> {
    const client = await NbdClient.connect({ uri });
    try {
      for (;;) {
        const granule = (this.#writes * 7) % (VOLUME_BYTES / GRANULE);
        const offset = granule * GRANULE + (this.#writes % 8) * 4096;
        const data = randomBytes(4096);
        const last = { offset, data };
        this.unsure.push(last);
        await client.write(offset, data);
        this.unsure.pop();
        this.granules.add(granule);
        data.copy(this.model, offset);
        this.#writes += 1;
      }
    } catch {
      client.destroy();
    }
  }

  /** What was never acknowledged is whichever of the two the disk has. */
  settle(disk: Buffer): void {
    for (const { offset, data } of this.unsure) {
      if (!disk.subarray(offset, offset + data.length).equals(data)) continue;
      data.copy(this.model, offset);
      this.granules.add(Math.floor(offset / GRANULE));
    }
  }
}

const names = async (node: RunningStorageNode) =>
  (await node.clients.volumes.listVolumes({})).volumes.map(({ name, state }) => `${name} ${state}`);

describe('a move to another storage node', () => {
  it.each(['raw', 'qcow2'])(
    'takes every byte and every bit of a %s volume, while its guest writes',
    async format => {
      const move = await Move.make({ format });
      const { source, target, volume } = move;
      const model = Buffer.alloc(VOLUME_BYTES);
      const write = (offset: number, length: number) => {
        const data = randomBytes(length);
        data.copy(model, offset);
        return withGuest(volume.exportUri, guest => guest.write(offset, data));
      };
      await write(0, 3 * MiB);
      const first = await move.addCheckpoint(source, 'first');
      await write(5 * MiB, GRANULE);
      const second = await move.addCheckpoint(source, 'second');
      await write(9 * MiB, 2 * GRANULE);
      const before = { first: await move.changed(source, first), second: await move.changed(source, second) };
      expect(before.second).toEqual([144, 145]);

      const guest = new Guest(model);
      const writing = guest.writeUntilCut(volume.exportUri);
      await expect.poll(() => guest.writes, { timeout: 60_000 }).toBeGreaterThan(20);
      await move.prepare();
      await move.start();
      const then = guest.writes;
      await expect.poll(() => guest.writes, { timeout: 60_000 }).toBeGreaterThan(then + 20);
      await expect(move.addCheckpoint(source, 'late')).rejects.toMatchObject({ code: 'volume-busy' });
      const sealed = await move.seal();
      await writing;
      await expect(NbdClient.connect({ uri: volume.exportUri })).rejects.toThrow();
      await move.accept(sealed);
      expect(await names(source)).toEqual([`${volume.name} sealed`]);
      expect(await names(target)).toEqual([`${volume.name} arrived`]);
      const moved = await move.open();
      await move.leave(source);

      expect(moved.exportUri).toMatch(new RegExp(`/${volume.name}$`));
      expect(moved.exportUri).not.toBe(volume.exportUri);
      expect(await names(source)).toEqual([]);
      await expect(access(source.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
      const disk = await readDisk(moved.exportUri);
      guest.settle(disk);
      expect(disk.equals(model)).toBe(true);
      const sorted = (granules: Iterable<number>) => [...new Set(granules)].sort((a, b) => a - b);
      expect(await move.changed(target, second)).toEqual(sorted([...before.second, ...guest.granules]));
      expect(await move.changed(target, first)).toEqual(sorted([...before.first, ...guest.granules]));
      expect(moved.checkpoints.map(({ name, description }) => [name, description])).toEqual([
        ['first', 'of first'],
        ['second', 'of second'],
      ]);
      // The last one goes on recording, also after a restart and a crash's worth of writes.
      await withGuest(moved.exportUri, client => client.write(15 * MiB, randomBytes(4096)));
      await target.restart();
      expect(await move.changed(target, second)).toContain((15 * MiB) / GRANULE);
      expect((await target.clients.volumes.getVolume({ volumeId: move.volumeId })).checkpoints).toMatchObject(
        [
          { inconsistent: false, grownBytes: 0 },
          { inconsistent: false, recording: true, grownBytes: 0 },
        ],
      );
    },
  );

  it('leaves increments right: the first backup after it builds on the one before it', async () => {
    const move = await Move.make();
    const vault = await RunningStorageNode.start();
    const pair = await BackupPair.of(move.source, vault, move.volume);
    const content = randomBytes(VOLUME_BYTES);
    await withGuest(move.volume.exportUri, guest => guest.write(0, content));
    const { backup } = await pair.backUp();
    const late = randomBytes(GRANULE);
    late.copy(content, 4 * MiB);
    await withGuest(move.volume.exportUri, guest => guest.write(4 * MiB, late));
    const moved = await move.whole();
    await withGuest(moved.exportUri, guest => guest.write(8 * MiB, late));
    late.copy(content, 8 * MiB);
    const after = Object.assign(Object.create(pair) as BackupPair, { source: move.target, volume: moved });
    const { backup: increment, end } = await after.backUp(backup);
    expect(end.sentBytes).toBe(2 * GRANULE);
    expect((await after.restored(increment)).equals(content)).toBe(true);
  });

  it('that is undone leaves the guest where it was, with its bitmaps', async () => {
    const move = await Move.make();
    const { source, target, volume } = move;
    const since = await move.addCheckpoint(source, 'first');
    await move.prepare();
    await move.start();
    await move.seal();
    await move.unseal();
    await move.leave(target);
    expect(await names(target)).toEqual([]);
    await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(4096)));
    expect(await move.changed(source, since)).toEqual([0]);
    await move.addCheckpoint(source, 'second');
    await source.restart();
    expect(await names(source)).toEqual([`${volume.name} ready`]);
    // And it can move after all.
    const again = new Move(
      source,
      target,
      await source.clients.volumes.getVolume({ volumeId: move.volumeId }),
    );
    expect((await again.whole()).checkpoints).toHaveLength(2);
  });

  it('stays sealed over a restart, and arrived over one, and goes on', async () => {
    const move = await Move.make();
    const { source, target, volume } = move;
    const content = randomBytes(VOLUME_BYTES);
    await withGuest(volume.exportUri, guest => guest.write(0, content));
    const since = await move.addCheckpoint(source, 'first');
    await withGuest(volume.exportUri, guest => guest.write(0, content.subarray(0, 4096)));
    await move.prepare();
    await move.start();
    await move.seal();
    await source.restart();
    expect(await names(source)).toEqual([`${volume.name} sealed`]);
    const { exportUri } = await source.clients.volumes.getVolume({ volumeId: move.volumeId });
    expect(exportUri).toBe('');
    const sealed = await move.seal();
    await move.accept(sealed);
    await target.restart();
    expect(await names(target)).toEqual([`${volume.name} arrived`]);
    await move.accept(sealed);
    const moved = await move.open();
    expect(await move.open()).toEqual(moved);
    expect((await readDisk(moved.exportUri)).equals(content)).toBe(true);
    expect(await move.changed(target, since)).toEqual([0]);
  });

  it('is given up where the target restarts before it has accepted', async () => {
    const move = await Move.make();
    const { source, target } = move;
    await move.prepare();
    await move.start();
    const sealed = await move.seal();
    await target.restart();
    await expect(move.accept(sealed)).rejects.toMatchObject({ code: 'volume-not-found' });
    await expect(access(target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
    await move.unseal();
    expect(await names(source)).toEqual([`${move.volume.name} ready`]);
  });

  it('ends with the copy when the target is lost, and the guest goes on', async () => {
    const move = await Move.make();
    const { source, target, volume } = move;
    await move.prepare();
    await move.start();
    await target.stop();
    await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
    const end = await jobEnd(source, move.jobId);
    expect(end.error).toBeDefined();
    await expect(move.seal()).rejects.toThrow();
    await move.addCheckpoint(source, 'after');
    await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(MiB)));
    await target.begin();
    expect(await names(target)).toEqual([]);
  });

  it('is refused by name while something relies on the volume', async () => {
    const move = await Move.make({ format: 'qcow2' });
    const { source, volumeId } = move;
    await move.prepare();
    const snapshot = { step: newStep(), volumeId, snapshotId: randomUUID(), name: 'before-upgrade' };
    await source.clients.snapshots.createSnapshot(snapshot);
    await expect(move.start()).rejects.toMatchObject({
      code: 'volume-busy',
      message: expect.stringContaining("'before-upgrade'"),
    });
    await expect(move.seal()).rejects.toMatchObject({ code: 'job-not-found' });
  });

  it('refuses a volume that does not fit', async () => {
    const move = await Move.make();
    const { volumeId, name, sizeBytes, format } = move.volume;
    const wanted = { step: newStep(), volumeId, name, sizeBytes, format, allocatedBytes: 2 ** 50 };
    await expect(move.target.clients.volumes.prepareArrival(wanted)).rejects.toMatchObject({
      code: 'storage-full',
    });
    await expect(access(move.target.path('volumes', volumeId))).rejects.toThrow('ENOENT');
  });

  it('removes what was on its way when the storage node stops', async () => {
    const move = await Move.make();
    await move.prepare();
    await move.prepare();
    await move.target.restart();
    expect(await names(move.target)).toEqual([]);
    await expect(access(move.target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
  });
});
