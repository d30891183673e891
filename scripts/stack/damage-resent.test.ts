// Goal: a backup with a damaged byte comes back as far as it can, which is told, and the next backup carries what was
// damaged, so that its own restore is whole. Method: the real services and the real command, one byte turned over in
// the repository.
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { digestOf, Operator } from './testing/operator.ts';

const CLUSTER = 64 * 1024;
const DAMAGED = 7;
const DAMAGE = { offset: DAMAGED * CLUSTER, length: CLUSTER };

let operator: Operator;
beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
});
afterAll(() => operator?.close());

const restoreTo = (backup: string, name: string) =>
  operator.tidemark('restore', '--backup', backup, '--storage-node', 'alpha', '--to-volume', name);

async function turnOver(backupId: string, bytes: Buffer): Promise<void> {
  const path = await operator.imagePath(backupId);
  const image = readFileSync(path);
  const at = image.indexOf(bytes.subarray(0, 512));
  expect(at).toBeGreaterThan(0);
  image[at + 100]! ^= 1;
  writeFileSync(path, image);
}

test('a damaged block leaves a hole, and the next backup sends it again', async () => {
  const written = randomBytes(20 * CLUSTER);
  await operator.write('disk', 0, written);
  const { backup: monday } = await operator.backUp('disk', 'monday', 'full');
  await turnOver(monday.id, written.subarray(DAMAGE.offset));
  const held = await operator.contents('disk');

  const failure = await restoreTo(monday.id, 'holed').catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 3, stderr: expect.stringContaining('complete with holes') });
  expect(failure).toMatchObject({ stderr: expect.stringContaining(`${DAMAGE.offset} + ${DAMAGE.length}`) });
  const restores = (await operator.json('run', 'list', '--kind', 'restore')).items;
  expect(restores).toMatchObject([
    {
      state: 'succeeded',
      result: {
        state: 'complete-with-holes',
        damage: { bytes: CLUSTER, ranges: [DAMAGE], truncated: false },
      },
    },
  ]);
  const holed = await operator.contents('holed');
  const expected = Buffer.from(held);
  expected.fill(0, DAMAGE.offset, DAMAGE.offset + DAMAGE.length);
  expect(digestOf(holed)).toBe(digestOf(expected));
  expect((await operator.json('backup', 'show', monday.id)).damage).toEqual([DAMAGE]);

  // The guest writes elsewhere only.
  const elsewhere = randomBytes(CLUSTER);
  await operator.write('disk', 40 * CLUSTER, elsewhere);
  elsewhere.copy(held, 40 * CLUSTER);
  const { backup: tuesday } = await operator.backUp('disk', 'tuesday', 'incremental');
  expect(tuesday).toMatchObject({ kind: 'incremental', parentId: monday.id, sentBytes: 2 * CLUSTER });
  await restoreTo(tuesday.id, 'whole');
  expect(await operator.digest('whole')).toBe(digestOf(held));
  const verified = await operator.json('backup', 'show', tuesday.id);
  expect(verified.damage).toBeNull();

  // What was sent again is not sent for ever.
  const { backup: wednesday } = await operator.backUp('disk', 'wednesday', 'incremental');
  expect(wednesday).toMatchObject({ kind: 'incremental', sentBytes: 0 });
  await restoreTo(wednesday.id, 'later');
  expect(await operator.digest('later')).toBe(digestOf(held));
});
