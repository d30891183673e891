// Goal: a backup that cannot be prepared holds no room, whatever becomes of its files. Method: a real folder, in which
// the checksums' place is taken and nothing can be removed.
import { mkdir } from 'node:fs/promises';
import { MiB } from '@tidemark/engine';
import { expect, test, vi } from 'vitest';
import { NbdExports } from '../exports/nbd-exports.ts';
import { StateStore } from '../host/state-store.ts';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { PartialBackup } from './partial-backup.ts';
import { RepositoryLayout } from './repository-layout.ts';
import { SpaceBudget } from './space-budget.ts';
import { SharedSpace } from './space-reservation.ts';

test('room that was set aside is given back though the image cannot be removed', async () => {
  const store = new StateStore({ folder: await temporaryFolder() });
  const layout = new RepositoryLayout('r');
  await store.makeFolder(layout.backups);
  await mkdir(store.path(layout.partialSums('b')));
  vi.spyOn(store, 'remove').mockRejectedValue(new Error('EIO: i/o error, unlink'));
  const [budget, shared] = [new SpaceBudget(MiB * 64), new SharedSpace()];
  const exports = new NbdExports({ listen: { host: '127.0.0.1', port: 0 } });
  const host = { store, exports, layout, budget, shared, title: "repository 'r'" };
  const plan = { backupId: 'b', volumeId: 'v', sizeBytes: MiB, parentBackupId: '', expectedBytes: MiB };
  const made = PartialBackup.create(host, { ...plan, compression: 'none' }, { sinceMs: 0 });
  await expect(made).rejects.toThrow('EIO');
  expect([budget.usedBytes, shared.spokenForBytes]).toEqual([0, 0]);
});
