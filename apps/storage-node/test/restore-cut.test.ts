// Goal: a restore survives a network that is away for seconds, and ends in order with one that stays away. Method: two
// whole storage nodes, with a line between them that is cut.
import { randomBytes } from 'node:crypto';
import { access, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { CutLine } from '../src/testing/cut-line.ts';
import { BackupPair, jobEnd, readDisk, withGuest } from '../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../src/testing/running-storage-node.ts';

/** A restore to a file, by way of a line, that has copied some and would take for ever to copy the rest. */
async function startOverLine(options: { reconnectMs?: number; skipDamage?: boolean } = {}) {
  const { reconnectMs = 20_000, skipDamage = false } = options;
  const settings = { TIDEMARK_TARGET_RECONNECT_MS: String(reconnectMs) };
  const source = await RunningStorageNode.start(undefined, settings);
  const pair = await BackupPair.make(source, await RunningStorageNode.start());
  await withGuest(pair.volume.exportUri, guest => guest.write(0, randomBytes(guest.sizeBytes)));
  const { backup } = await pair.backUp();
  const { repositoryId } = pair;
  const place = { step: newStep(), repositoryId, backupId: backup.backupId };
  const { uri, sizeBytes } = await pair.vault.clients.repositories.openBackup(place);
  const line = await CutLine.to(uri);
  const step = newStep();
  const { jobs } = source.clients;
  const request = { sourceUri: line.over(uri), sizeBytes, speedBytesPerSecond: 1, skipDamage };
  const target = { $case: 'file', value: { name: 'disk.raw' } } as const;
  const start = (given: Partial<typeof request> = {}) =>
    jobs.startRestore({ step, ...request, ...given, target });
  const { jobId, filePath } = await start();
  for await (const { currentBytes } of source.clients.watchJob({ jobId })) if (currentBytes > 0) break;
  const goOn = () => jobs.setJobSpeed({ step: newStep(), jobId, speedBytesPerSecond: 0 });
  return { pair, line, step, jobId, filePath, goOn, start, exportName: new URL(uri).pathname.slice(1) };
}

test('a line that is back within seconds costs the restore nothing', async () => {
  const { pair, line, jobId, filePath, goOn } = await startOverLine();
  line.cut();
  await goOn();
  await delay(500);
  line.mend();
  expect((await jobEnd(pair.source, jobId)).error).toBeUndefined();
  expect((await readFile(filePath)).equals(await readDisk(pair.volume.exportUri))).toBe(true);
});

test.each([false, true])(
  'a line that stays cut ends it: no damage is made of it (skipping that: %s), and no file',
  async skipDamage => {
    const { pair, line, jobId, goOn, exportName, filePath } = await startOverLine({
      reconnectMs: 300,
      skipDamage,
    });
    line.cut();
    await goOn();
    const { error, damagedBytes } = await jobEnd(pair.source, jobId);
    expect(error?.code).toBe('io-error');
    expect(error?.message).toMatch(/repository at 127\.0\.0\.1:\d+.*did not come back.*restore again/i);
    expect(JSON.stringify(error)).not.toContain(exportName);
    expect(damagedBytes).toBe(0);
    await expect(access(filePath)).rejects.toThrow('ENOENT');
  },
);

test('a repository whose storage node has started anew ends it at once', async () => {
  const { pair, line, jobId, goOn, exportName, start } = await startOverLine({ reconnectMs: 600_000 });
  // The line stays: the export behind it goes.
  const { repositoryId } = pair;
  const { open } = await pair.vault.clients.repositories.listRepositoryWork({ repositoryId });
  for (const { backupId, runId } of open) {
    await pair.vault.clients.repositories.closeBackup({ step: newStep({ runId }), repositoryId, backupId });
  }
  line.cut();
  line.mend();
  await goOn();
  const { error } = await jobEnd(pair.source, jobId);
  expect(error?.code).toBe('io-error');
  expect(error?.message).toMatch(/no such NBD export at .*restore again/i);
  expect(JSON.stringify(error)).not.toContain(exportName);
  await pair.source.clients.jobs.dismissJob({ step: newStep(), jobId });
  const refused: unknown = await start().catch((thrown: unknown) => thrown);
  expect(String(refused)).toContain('127.0.0.1');
  expect(String(refused)).not.toContain(exportName);
});

test('a restore that waits for a line is cancelled at once, and one of the same name after it is kept', async () => {
  const { pair, line, step, jobId, goOn, start, filePath } = await startOverLine({ reconnectMs: 600_000 });
  const { jobs } = pair.source.clients;
  line.cut();
  await goOn();
  await delay(200);
  await jobs.cancelJob({ step, jobId });
  expect((await jobEnd(pair.source, jobId)).error?.code).toBe('run-cancelled');
  line.mend();
  await jobs.dismissJob({ step: newStep(), jobId });
  await start({ speedBytesPerSecond: 0 });
  expect((await jobEnd(pair.source, jobId)).error).toBeUndefined();
  expect((await readFile(filePath)).length).toBe(pair.volume.sizeBytes);
});
