// Goal: an operator makes a policy for volumes with a label, sees beforehand what it does, fires it, and finds every
// kept backup to hold what its volume held; what it says it prunes is gone. Method: the real services in a temporary
// home, the real command, a guest over NBD.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

const GRANULE = 64 * 1024;
let operator: Operator;
const held = new Map<string, string>();

beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
});

afterAll(() => operator?.close());

interface Found {
  id: string;
  checkpoint: string;
  kind: string;
}

const backups = async (): Promise<Found[]> =>
  (await operator.json('backup', 'list', '--volume', 'disk')).items;

/** Fires the policy after a write, and returns the firing once it is over. */
async function fire(byte: number) {
  await operator.writeAll('disk', [{ offset: byte * GRANULE, bytes: Buffer.alloc(GRANULE, byte) }]);
  const digest = await operator.digest('disk');
  const firing = await operator.json('policy', 'fire', 'nightly');
  expect(firing).toMatchObject({ state: 'succeeded', members: { succeeded: 1 } });
  const [newest] = await backups();
  held.set(newest!.id, digest);
  return firing;
}

test('a policy backs up, builds on what it made, prunes by its rules, and all that is left is as it was', {
  timeout: 300_000,
}, async () => {
  await operator.tidemark('volume', 'label', 'disk', 'app=web');
  await operator.tidemark(
    ...['policy', 'create', 'nightly', '--selector', 'app=web', '--repository', 'vault'],
    ...['--cron', '30 2 * * *', '--time-zone', 'Europe/Berlin', '--keep-last', '2', '--verify', '100'],
  );
  const simulated = await operator.json('policy', 'simulate', 'nightly', '--days', '4');
  expect(simulated.items.map((item: { volumes: object[] }) => item.volumes[0])).toMatchObject([
    { volume: 'disk', kind: 'full', kept: 1, pruned: [] },
    { volume: 'disk', kind: 'incremental', kept: 2, pruned: [] },
    { volume: 'disk', kind: 'incremental', kept: 2, pruned: [{ backup: null }] },
    { volume: 'disk', kind: 'incremental', kept: 2, pruned: [{ backup: null }] },
  ]);
  for (const byte of [1, 2]) await fire(byte);
  const before = await backups();
  expect(before.map(({ kind }) => kind)).toEqual(['incremental', 'full']);
  const { followUps } = await fire(3);
  for (const { runId } of followUps) if (runId !== null) await operator.tidemark('run', 'watch', runId);
  const left = await backups();
  expect(left.map(({ id }) => id)).toEqual([expect.any(String), before[0]!.id]);
  for (const { id } of left) {
    expect(await operator.restored(id, `from-${id.slice(0, 8)}`)).toBe(held.get(id));
  }
});
