// Goal: two users of one file, who know of each other only by their locks, keep out of each other's way.
// Method: each opens the file for itself, as another process would; locks of one open file do not count for it.
import { afterAll, describe, expect, test } from 'vitest';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { KiB } from '../units.ts';
import { NodeFile } from './node-file.ts';

const READ = 1;
const WRITE = 2;
const RESIZE = 8;
const ALL = 15;

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

async function openTwice(name: string): Promise<[NodeFile, NodeFile]> {
  const path = folder.file(name);
  await (await NodeFile.open(path, { create: 'exclusive', sizeBytes: 64 * KiB })).close();
  const options = { locking: 'permissions' } as const;
  return [await NodeFile.open(path, options), await NodeFile.open(path, options)];
}

describe('locks', () => {
  test('let users be who share what the other uses', async () => {
    const [one, other] = await openTwice('shared');
    one.lockPermissions({ uses: READ | WRITE, shares: ALL & ~RESIZE });
    other.lockPermissions({ uses: READ | WRITE, shares: ALL & ~RESIZE });
    await one.close();
    await other.close();
  });

  test('keep out who would use what another does not share, and the other way round', async () => {
    const [one, other] = await openTwice('excluded');
    one.lockPermissions({ uses: READ | WRITE, shares: READ });
    expect(() => other.lockPermissions({ uses: WRITE, shares: ALL })).toThrow('Failed to get "write" lock');
    const reader = { uses: READ, shares: ALL & ~WRITE };
    expect(() => other.lockPermissions(reader)).toThrow('Failed to get shared "write" lock');
    other.lockPermissions({ uses: READ, shares: ALL });
    await one.close();
    other.lockPermissions(reader);
    await other.close();
  });

  test('that were refused leave no trace, and those taken back are free', async () => {
    const [one, other] = await openTwice('undone');
    const undo = one.lockPermissions({ uses: READ, shares: ALL & ~WRITE });
    expect(() => other.lockPermissions({ uses: WRITE | RESIZE, shares: 0 })).toThrow('Failed to get');
    // Had the refused one kept anything, this would find it.
    one.lockPermissions({ uses: READ | RESIZE, shares: 0 });
    one.lockPermissions({ uses: READ, shares: ALL & ~WRITE });
    undo();
    other.lockPermissions({ uses: WRITE, shares: 0 });
    await one.close();
    await other.close();
  });

  test('move along when the file is opened again', async () => {
    const [one, other] = await openTwice('reopened');
    one.lockPermissions({ uses: READ, shares: ALL & ~WRITE });
    const dropped = await one.prepareReopen({ readOnly: true });
    dropped.abort();
    expect(one.readOnly).toBe(false);
    const reopening = await one.prepareReopen({ readOnly: true });
    reopening.commit();
    expect(one.readOnly).toBe(true);
    expect(() => other.lockPermissions({ uses: WRITE, shares: ALL })).toThrow('Failed to get "write" lock');
    await expect(one.write(0, Buffer.alloc(512))).rejects.toMatchObject({ kind: 'io' });
    await one.close();
    other.lockPermissions({ uses: WRITE, shares: ALL });
    await other.close();
  });
});
