// Goal: a volume moves to another storage node while its guest writes, with every byte and every bit of its bitmaps;
// and whatever fails or restarts on the way, one of the two serves it, and nothing half-made stays. Method: two
// storage nodes over gRPC, a guest that knows what it was told is written, and a model of what changed when.
import { randomBytes, randomUUID } from 'node:crypto';
import { access } from 'node:fs/promises';
import { NbdClient } from '@tidemark/nbd';
import { describe, expect, it, vi } from 'vitest';
import { machineFiles } from '../src/host/files.ts';
import { MiB } from '../src/testing/backups.ts';
import {
  BackupPair,
  createVolume,
  jobEnd,
  readDisk,
  VOLUME_BYTES,
  withGuest,
} from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { VolumeMove, volumeStates } from '../src/testing/volume-move.ts';

const GRANULE = 64 * 1024;

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

describe('a move to another storage node', () => {
  it.each(['raw', 'qcow2'])(
    'takes every byte and every bit of a %s volume, while its guest writes',
    async format => {
      const move = await VolumeMove.make({ format });
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
      expect(await volumeStates(source)).toEqual([`${volume.name} sealed`]);
      expect(await volumeStates(target)).toEqual([`${volume.name} arrived`]);
      const moved = await move.open();
      await move.leave(source);

      expect(moved.exportUri).toMatch(new RegExp(`/${volume.name}$`));
      expect(moved.exportUri).not.toBe(volume.exportUri);
      expect(await volumeStates(source)).toEqual([]);
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
    const move = await VolumeMove.make();
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
    const move = await VolumeMove.make();
    const { source, target, volume } = move;
    const since = await move.addCheckpoint(source, 'first');
    await move.prepare();
    await move.start();
    await move.seal();
    await move.unseal();
    await move.leave(target);
    expect(await volumeStates(target)).toEqual([]);
    await withGuest(volume.exportUri, guest => guest.write(0, randomBytes(4096)));
    expect(await move.changed(source, since)).toEqual([0]);
    await move.addCheckpoint(source, 'second');
    await source.restart();
    expect(await volumeStates(source)).toEqual([`${volume.name} ready`]);
    // And it can move after all.
    const again = new VolumeMove(
      source,
      target,
      await source.clients.volumes.getVolume({ volumeId: move.volumeId }),
    );
    expect((await again.whole()).checkpoints).toHaveLength(2);
  });

  it('stays sealed over a restart, and arrived over one, and goes on', async () => {
    const move = await VolumeMove.make();
    const { source, target, volume } = move;
    const content = randomBytes(VOLUME_BYTES);
    await withGuest(volume.exportUri, guest => guest.write(0, content));
    const since = await move.addCheckpoint(source, 'first');
    await withGuest(volume.exportUri, guest => guest.write(0, content.subarray(0, 4096)));
    await move.prepare();
    await move.start();
    await move.seal();
    await source.restart();
    expect(await volumeStates(source)).toEqual([`${volume.name} sealed`]);
    const { exportUri } = await source.clients.volumes.getVolume({ volumeId: move.volumeId });
    expect(exportUri).toBe('');
    const sealed = await move.seal();
    await move.accept(sealed);
    await target.restart();
    expect(await volumeStates(target)).toEqual([`${volume.name} arrived`]);
    await move.accept(sealed);
    const moved = await move.open();
    expect(await move.open()).toEqual(moved);
    expect((await readDisk(moved.exportUri)).equals(content)).toBe(true);
    expect(await move.changed(target, since)).toEqual([0]);
  });

  it('is given up where the target restarts before it has accepted', async () => {
    const move = await VolumeMove.make();
    const { source, target } = move;
    await move.prepare();
    await move.start();
    const sealed = await move.seal();
    await target.restart();
    await expect(move.accept(sealed)).rejects.toMatchObject({ code: 'volume-not-found' });
    await expect(access(target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
    await move.unseal();
    expect(await volumeStates(source)).toEqual([`${move.volume.name} ready`]);
  });

  it('is not accepted from a copy that was made since, and to which nothing was written', async () => {
    const move = await VolumeMove.make();
    const { source, target } = move;
    await move.prepare();
    await move.start();
    const sealed = await move.seal();
    await target.restart();
    const { imageUri } = move;
    await move.prepare();
    move.imageUri = imageUri;
    await expect(move.accept(sealed)).rejects.toMatchObject({ code: 'volume-not-found' });
    expect(await volumeStates(target)).toEqual([]);
    await move.discard();
    await move.unseal();
    expect(await volumeStates(source)).toEqual([`${move.volume.name} ready`]);
  });

  it('ends with the copy when the target is lost, and the guest goes on', async () => {
    const move = await VolumeMove.make();
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
    expect(await volumeStates(target)).toEqual([]);
  });

  it('is refused by name while something relies on the volume', async () => {
    const move = await VolumeMove.make({ format: 'qcow2' });
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
    const move = await VolumeMove.make();
    const { volumeId, name, sizeBytes, format } = move.volume;
    const wanted = { step: newStep(), volumeId, name, sizeBytes, format, allocatedBytes: 2 ** 50 };
    await expect(move.target.clients.volumes.prepareArrival(wanted)).rejects.toMatchObject({
      code: 'storage-full',
    });
    await expect(access(move.target.path('volumes', volumeId))).rejects.toThrow('ENOENT');
  });

  it('is taken back by its own run alone, and never once it is open', async () => {
    const move = await VolumeMove.make();
    const { source, target, volume } = move;
    const other = new VolumeMove(source, target, volume);
    await other.prepare();
    await move.prepare();
    expect(move.imageUri).not.toBe(other.imageUri);
    await other.discard();
    await move.start();
    const sealed = await move.seal();
    await other.unseal();
    expect(await volumeStates(source)).toEqual([`${volume.name} sealed`]);
    await expect(other.accept(sealed)).rejects.toMatchObject({ code: 'volume-not-found' });
    await move.accept(sealed);
    await other.discard();
    await target.restart();
    await other.discard();
    expect(await volumeStates(target)).toEqual([`${volume.name} arrived`]);
    await move.open();
    await move.discard();
    expect(await volumeStates(target)).toEqual([`${volume.name} ready`]);
  });

  it.each(['as it arrived', 'after a restart'])(
    'that was accepted and is undone leaves nothing at the target, %s',
    async when => {
      const move = await VolumeMove.make();
      const { source, target, volume } = move;
      await move.prepare();
      await move.start();
      await move.accept(await move.seal());
      if (when === 'after a restart') await target.restart();
      await move.discard();
      await move.discard();
      expect(await volumeStates(target)).toEqual([]);
      await expect(access(target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
      await move.unseal();
      expect(await volumeStates(source)).toEqual([`${volume.name} ready`]);
    },
  );

  it('leaves nothing of a copy whose bitmaps did not arrive whole', async () => {
    const move = await VolumeMove.make();
    const { source, target } = move;
    await move.addCheckpoint(source, 'first');
    await move.prepare();
    await move.start();
    const sealed = await move.seal();
    const [first] = sealed.checkpoints;
    const short = { ...sealed, checkpoints: [{ ...first!, bitmapBytes: first!.bitmapBytes - 1 }] };
    await expect(move.accept(short)).rejects.toMatchObject({ code: 'image-invalid' });
    await expect(access(target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
    await expect(move.accept(sealed)).rejects.toMatchObject({ code: 'volume-not-found' });
  });

  it('removes what was on its way when the storage node stops', async () => {
    const move = await VolumeMove.make();
    await move.prepare();
    await move.prepare();
    await move.target.restart();
    expect(await volumeStates(move.target)).toEqual([]);
    await expect(access(move.target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
  });

  it('keeps no other volume from being stored where the copy cannot be removed at a stop', async () => {
    const move = await VolumeMove.make();
    const { target } = move;
    const other = await createVolume(target, { sizeBytes: VOLUME_BYTES });
    await move.addCheckpoint(target, 'first', other.volumeId);
    await move.prepare();
    await withGuest(other.exportUri, guest => guest.write(0, randomBytes(4096)));
    const { removeFolder } = machineFiles;
    const stuck = vi.spyOn(machineFiles, 'removeFolder').mockImplementation(async path => {
      if (path.includes(move.volumeId)) throw new Error(`EIO: i/o error, rmdir ${path}`);
      return removeFolder(path);
    });
    await target.stop();
    stuck.mockRestore();
    await target.begin();
    const { checkpoints } = await target.clients.checkpoints.listCheckpoints({ volumeId: other.volumeId });
    expect(checkpoints).toMatchObject([{ grownBytes: 0, changedSinceBytes: GRANULE }]);
    expect(await volumeStates(target)).toEqual([`${other.name} ready`]);
    await expect(access(target.path('volumes', move.volumeId))).rejects.toThrow('ENOENT');
  });
});
