// Goal: a run that restored a volume takes back its own and nothing else: a volume that is recovered keeps its id, so
// an earlier run that failed, and is undone late, finds what a later one has made. Method: two restores of one id.
import { randomBytes, randomUUID } from 'node:crypto';
import { RestoreInstant, RestoreVolume } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { BackupPair, jobEnd, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

test.each(['volume', 'instant'] as const)(
  'a late undo of one restore leaves the %s of another',
  async kind => {
    const [source, vault] = [await RunningStorageNode.start(), await RunningStorageNode.start()];
    const pair = await BackupPair.make(source, vault);
    await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(4096)));
    const { backup } = await pair.backUp();
    const place = { repositoryId: pair.repositoryId, backupId: backup.backupId };
    const { uri, sizeBytes } = await vault.clients.repositories.openBackup({ step: newStep(), ...place });
    const about = { volumeId: randomUUID(), name: 'back', format: 'qcow2', backupId: backup.backupId };
    const target =
      kind === 'volume'
        ? { $case: kind, value: RestoreVolume.fromPartial(about) }
        : { $case: kind, value: RestoreInstant.fromPartial(about) };
    const start = (runId: string) =>
      source.clients.jobs.startRestore({ step: newStep({ runId }), sourceUri: uri, sizeBytes, target });
    const [early, late] = [randomUUID(), randomUUID()];
    const { jobId } = await start(late);
    await jobEnd(source, jobId);

    const remove = (madeBy: string) =>
      source.clients.volumes.deleteVolume({ step: newStep(), volumeId: about.volumeId, madeBy });
    const names = async () =>
      (await source.clients.volumes.listVolumes({})).volumes.map(({ name }) => name).sort();
    const all = ['back', pair.volume.name].sort();
    await expect(start(early)).rejects.toMatchObject({ code: 'volume-name-taken' });
    await remove(early);
    expect(await names()).toEqual(all);
    await source.restart();
    await remove(early);
    expect(await names()).toEqual(all);
    await remove(late);
    await remove(late);
    expect(await names()).toEqual([pair.volume.name]);
  },
);
