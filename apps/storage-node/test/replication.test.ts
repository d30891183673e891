// Goal: a replica is the backup it was copied from: by qemu-img, by its checksums, and by what is restored; and no more
// than what was missing came over the network, also where something failed in between. Method: two whole storage nodes,
// lines that are cut, files that are damaged.
import { randomBytes, randomUUID } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { CLUSTER_BYTES as CLUSTER } from '../src/sums/sums-format.ts';
import { filesOf, imageOf, makeChain, prepare, publish } from '../src/testing/backup-chain.ts';
import { createRepository, MiB, makeBackup, planOf, readBackup } from '../src/testing/backups.ts';
import { CutLine } from '../src/testing/cut-line.ts';
import { copyWithSums, flipByte, overwrite, placesOf } from '../src/testing/damage.ts';
import { jobEnd } from '../src/testing/live-volume.ts';
import { ReplicaPair } from '../src/testing/replicas.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { runTool, testWith } from '../src/testing/tools.ts';

const NO_WAIT = { TIDEMARK_TARGET_RECONNECT_MS: '0' };

/** A full backup of random bytes, and the way to replicate it. */
async function wholeDisk(options: { over?: boolean; settings?: Readonly<Record<string, string>> } = {}) {
  const source = await RunningStorageNode.start();
  const target = await RunningStorageNode.start(undefined, options.settings);
  const repositoryId = await createRepository(source);
  const plan = planOf(repositoryId, randomUUID());
  const bytes = randomBytes(4 * MiB);
  const endpoint = await prepare(source, plan);
  await copyWithSums(endpoint, { data: [{ offset: 0, bytes }] });
  await publish(source, plan);
  const pair = await ReplicaPair.make(source, target, repositoryId);
  const line = options.over ? await CutLine.to(endpoint.uri) : undefined;
  const over = (uri: string) => line?.over(uri) ?? uri;
  return { pair, source, target, plan, bytes, line, replica: await pair.prepare(plan.backupId, { over }) };
}

/** Resolves once so much has been asked for. */
async function until(node: RunningStorageNode, jobId: string, sentBytes: number): Promise<void> {
  for await (const status of node.clients.watchJob({ jobId })) if (status.sentBytes >= sentBytes) return;
}

describe('a chain', () => {
  testWith(
    ['qemu-img'],
    'is the same at the target, and of each backup only its own clusters come',
    async () => {
      const source = await RunningStorageNode.start();
      const target = await RunningStorageNode.start();
      const chain = await makeChain(source);
      const pair = await ReplicaPair.make(source, target, chain.repositoryId);
      const full = await pair.replicate(chain.full.backupId);
      expect(full.end).toMatchObject({ type: 'replication', sentBytes: 16 * CLUSTER, currentBytes: 4 * MiB });
      const increment = await pair.replicate(chain.increment.backupId, { parent: full.stored.backupId });
      expect(increment.end.sentBytes).toBe(CLUSTER);
      const { repositoryId } = pair;
      const place = (backupId: string) =>
        target.path('repositories', repositoryId, 'backups', `${backupId}.qcow2`);
      for (const [stored, original] of [
        [full.stored, chain.full],
        [increment.stored, chain.increment],
      ] as const) {
        const report = JSON.parse(
          await runTool('qemu-img', 'check', '--output=json', place(stored.backupId)),
        );
        expect([report.leaks, report.corruptions]).toEqual([undefined, undefined]);
        const compared = await runTool(
          'qemu-img',
          'compare',
          place(stored.backupId),
          imageOf(source, original),
        );
        expect(compared).toContain('Images are identical');
        const known = await source.clients.repositories.getBackup(original);
        expect(stored).toMatchObject({ sumsDigest: known.sumsDigest, replicaOfBackupId: original.backupId });
      }
      const info = JSON.parse(
        await runTool('qemu-img', 'info', '--output=json', place(increment.stored.backupId)),
      );
      expect(info['backing-filename']).toBe(`${full.stored.backupId}.qcow2`);
      // By itself, with the source gone for good, also after a restart.
      await source.stop();
      await target.restart();
      const read = await readBackup(target, { repositoryId, backupId: increment.stored.backupId });
      expect(read.equals(chain.expected)).toBe(true);
      const again = await target.clients.repositories.getBackup({
        repositoryId,
        backupId: increment.stored.backupId,
      });
      expect(again).toEqual(increment.stored);
      const verify = { step: newStep(), repositoryId, backupId: again.backupId, chain: true };
      const { jobId } = await target.clients.repositories.startVerify(verify);
      expect((await jobEnd(target, jobId)).error).toBeUndefined();
    },
  );

  testWith(['qemu-img'], 'becomes one full backup, compressed as the target has it', async () => {
    const source = await RunningStorageNode.start();
    const target = await RunningStorageNode.start();
    const chain = await makeChain(source);
    const pair = await ReplicaPair.make(source, target, chain.repositoryId, { compression: 'zstd' });
    const { stored, end } = await pair.replicate(chain.increment.backupId, { isFlat: true });
    // Fifteen clusters of both; the one that became zeroes is not there.
    expect(end.sentBytes).toBe(15 * CLUSTER);
    expect(stored).toMatchObject({ kind: 'full', parentBackupId: '', compression: 'zstd', hasSums: true });
    expect(stored.storedBytes).toBeLessThan(12 * CLUSTER);
    const image = target.path('repositories', pair.repositoryId, 'backups', `${stored.backupId}.qcow2`);
    const report = JSON.parse(await runTool('qemu-img', 'check', '--output=json', image));
    expect(report['compressed-clusters']).toBeGreaterThan(0);
    const compared = await runTool('qemu-img', 'compare', image, imageOf(source, chain.increment));
    expect(compared).toContain('Images are identical');
  });

  test('goes to another repository of the same storage node', async () => {
    const node = await RunningStorageNode.start();
    const chain = await makeChain(node, { compression: 'zstd' });
    const pair = await ReplicaPair.within(node, chain.repositoryId);
    const full = await pair.replicate(chain.full.backupId);
    const { stored } = await pair.replicate(chain.increment.backupId, { parent: full.stored.backupId });
    const read = await readBackup(node, { repositoryId: pair.repositoryId, backupId: stored.backupId });
    expect(read.equals(chain.expected)).toBe(true);
  });
});

describe('a copy that ends early', () => {
  test('goes on where a line was cut: what has come is not sent again', async () => {
    const { pair, target, replica, line, bytes } = await wholeDisk({ over: true, settings: NO_WAIT });
    const first = await pair.copy(replica, MiB);
    await until(target, first, 2 * MiB);
    line!.cut();
    const cut = await jobEnd(target, first);
    expect(cut.error?.code).toBe('io-error');
    expect(JSON.stringify(cut.error)).not.toContain(new URL(replica.request.sourceUri!).pathname.slice(1));
    expect(
      (await target.clients.repositories.listBackups({ repositoryId: pair.repositoryId })).backups,
    ).toEqual([]);
    line!.mend();
    const second = await jobEnd(target, await pair.copy(replica));
    expect(second.error).toBeUndefined();
    expect(second.sentBytes).toBeGreaterThan(0);
    // A few requests were under way when it was cut.
    expect(cut.sentBytes + second.sentBytes).toBeLessThanOrEqual(4 * MiB + 16 * 4 * CLUSTER);
    expect(second.sentBytes).toBeLessThan(4 * MiB);
    const { backupId } = await pair.publish(replica);
    expect((await readBackup(target, { repositoryId: pair.repositoryId, backupId })).equals(bytes)).toBe(
      true,
    );
  });

  test('costs nothing where the line is back within seconds', async () => {
    const { pair, target, replica, line, bytes } = await wholeDisk({ over: true });
    const jobId = await pair.copy(replica, MiB);
    await until(target, jobId, MiB);
    line!.cut();
    await target.clients.jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
    line!.mend();
    expect((await jobEnd(target, jobId)).error).toBeUndefined();
    const { backupId } = await pair.publish(replica);
    expect((await readBackup(target, { repositoryId: pair.repositoryId, backupId })).equals(bytes)).toBe(
      true,
    );
  });

  test('is paused, resumed and cancelled, and leaves nothing once it is discarded', async () => {
    const { pair, target, replica, plan, source } = await wholeDisk();
    const jobId = await pair.copy(replica, MiB);
    await until(target, jobId, MiB);
    const { jobs, repositories } = target.clients;
    const command = { step: newStep(), jobId };
    await jobs.pauseJob(command);
    for await (const { state } of target.clients.watchJob({ jobId })) if (state === 'paused') break;
    await jobs.resumeJob(command);
    expect(await pair.copy(replica, MiB)).toBe(jobId);
    await jobs.cancelJob(command);
    expect((await jobEnd(target, jobId)).error?.code).toBe('run-cancelled');
    const { repositoryId, backupId } = replica.plan;
    await repositories.discardBackup({ step: newStep(), repositoryId, backupId });
    expect(await filesOf(target, repositoryId)).toEqual([]);
    expect((await repositories.listRepositoryWork({ repositoryId })).partials).toEqual([]);
    // While it is open nobody takes the source out of its chain.
    const removal = { step: newStep(), repositoryId: plan.repositoryId, backupId: plan.backupId };
    await expect(source.clients.repositories.startRemoval(removal)).rejects.toMatchObject({
      code: 'backup-in-use',
    });
  });

  test('ends with the target: files go, and the old target is refused', async () => {
    const { pair, target, replica } = await wholeDisk();
    const jobId = await pair.copy(replica, MiB);
    await until(target, jobId, MiB);
    await target.restart();
    expect(await filesOf(target, pair.repositoryId)).toEqual([]);
    await expect(pair.copy(replica)).rejects.toMatchObject({ code: 'backup-not-found' });
    await target.clients.repositories.prepareBackup({ step: newStep(), ...replica.plan });
    await expect(pair.copy(replica)).rejects.toMatchObject({ code: 'backup-not-found' });
  });

  test('ends where the target has no room, before anything is sent or in the middle', async () => {
    const { source, target, plan } = await wholeDisk();
    const small = await ReplicaPair.make(source, target, plan.repositoryId, { limitBytes: 3 * MiB });
    const early = small.prepare(plan.backupId, { expectedBytes: 4 * MiB });
    await expect(early).rejects.toMatchObject({ code: 'repository-full' });
    expect(await filesOf(target, small.repositoryId)).toEqual([]);
    const late = await small.prepare(plan.backupId);
    expect((await jobEnd(target, await small.copy(late))).error?.code).toBe('repository-full');
  });
});

describe('a source that is not sound', () => {
  test('is refused, naming the place', async () => {
    const { pair, target, source, plan, replica } = await wholeDisk();
    const { data } = await placesOf(imageOf(source, plan), 9 * CLUSTER);
    await flipByte(imageOf(source, plan), data + 7);
    const jobId = await pair.copy(replica);
    const { error } = await jobEnd(target, jobId);
    expect(error).toMatchObject({ code: 'backup-damaged' });
    expect(error?.message).toContain(`damaged at ${9 * CLUSTER}`);
    expect((await target.clients.jobs.getJobDamage({ jobId })).ranges).toEqual([
      { offset: 9 * CLUSTER, length: CLUSTER },
    ]);
  });

  test('is refused where its checksums are not those of its manifest', async () => {
    const source = await RunningStorageNode.start();
    const target = await RunningStorageNode.start();
    const chain = await makeChain(source);
    // A record that says nothing of a cluster which the image has: the data alone would not tell.
    const sums = source.path('repositories', chain.repositoryId, 'backups', `${chain.full.backupId}.sums`);
    await overwrite(sums, 3 * 16, Buffer.alloc(16));
    const pair = await ReplicaPair.make(source, target, chain.repositoryId);
    const replica = await pair.prepare(chain.full.backupId);
    const { error } = await jobEnd(target, await pair.copy(replica));
    expect(error).toMatchObject({ code: 'backup-damaged' });
    expect(error?.message).toContain('checksums');
  });

  test('is refused without checksums', async () => {
    const source = await RunningStorageNode.start();
    const target = await RunningStorageNode.start();
    const repositoryId = await createRepository(source);
    const plan = planOf(repositoryId, randomUUID());
    await makeBackup(source, plan, [{ offset: 0, bytes: randomBytes(CLUSTER) }]);
    const pair = await ReplicaPair.make(source, target, repositoryId);
    await expect(pair.prepare(plan.backupId)).rejects.toMatchObject({ code: 'backup-not-usable' });
    const flat = await pair.prepare(plan.backupId, { isFlat: true });
    expect((await jobEnd(target, await pair.copy(flat))).error?.code).toBe('backup-not-usable');
  });
});
