// Goal: the database chooses by labels exactly what the selector itself says of each row. Method: random labels and
// random selectors, SQL against `matchesSelector`; and pages that are walked to their end.
import { randomUUID } from 'node:crypto';
import { type Labels, matchesSelector, parseSelector } from '@tidemark/proto';
import { beforeEach, expect, test } from 'vitest';
import type { Catalog } from './catalog.ts';
import { openTestCatalog } from './testing/index.ts';

let catalog: Catalog;

beforeEach(async () => {
  ({ catalog } = await openTestCatalog());
});

/** A small linear congruential generator: the same numbers in each run. */
function numbers(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const KEYS = ['app', 'tier', 'example.org/zone', 'x'];
const VALUES = ['web', 'db', '', 'A.b_c-d'];

async function addVolumes(
  count: number,
  below: (n: number) => number,
): Promise<{ name: string; labels: Labels }[]> {
  const node = await catalog.storageNodes.create({ id: randomUUID(), name: 'alpha', controlAddress: 'h:1' });
  const made: { name: string; labels: Labels }[] = [];
  for (let n = 0; n < count; n += 1) {
    const keys = KEYS.filter(() => below(2) === 0);
    const labels = Object.fromEntries(keys.map(key => [key, VALUES[below(VALUES.length)]!]));
    const name = `v${String(n).padStart(3, '0')}`;
    const facts = { sizeBytes: 512, format: 'raw' as const, storageNodeId: node.id };
    const { id } = await catalog.volumes.create({ id: randomUUID(), name, labels, ...facts });
    if (n % 3 > 0)
      await catalog.volumes.markReady(id, { exportUri: `nbd://h/${name}`, sizeBytes: 512 }, null);
    made.push({ name, labels });
  }
  return made;
}

function randomSelector(below: (n: number) => number): string {
  const key = () => KEYS[below(KEYS.length)]!;
  const value = () => VALUES[below(VALUES.length)]!;
  const forms = [
    () => `${key()}=${value()}`,
    () => `${key()}!=${value()}`,
    () => `${key()} in (${value()},${value()})`,
    () => `${key()} notin (${value()},${value()})`,
    key,
    () => `!${key()}`,
  ];
  return Array.from({ length: 1 + below(3) }, () => forms[below(forms.length)]!()).join(',');
}

test('the database chooses what the selector says', async () => {
  const below = numbers(7);
  const volumes = await addVolumes(60, below);
  expect((await catalog.volumes.listSelected([])).map(({ name }) => name)).toEqual(
    volumes.map(({ name }) => name),
  );
  let some = 0;
  for (let round = 0; round < 80; round += 1) {
    const selector = parseSelector(randomSelector(below));
    const wanted = volumes.filter(({ labels }) => matchesSelector(selector, labels)).map(({ name }) => name);
    const found = await catalog.volumes.listSelected(selector);
    expect(
      found.map(({ name }) => name),
      JSON.stringify(selector),
    ).toEqual(wanted);
    if (wanted.length > 0 && wanted.length < volumes.length) some += 1;
  }
  expect(some).toBeGreaterThan(30);
  const ready = await catalog.volumes.listSelected([], { states: ['ready'] });
  expect(ready).toHaveLength(40);
});

test('a chosen list pages to its end', async () => {
  const volumes = await addVolumes(25, numbers(3));
  const selector = parseSelector('app');
  const names: string[] = [];
  let cursor: string | null = null;
  do {
    const page = await catalog.volumes.list({ selector, limit: 4, cursor });
    expect(page.items.length).toBeLessThanOrEqual(4);
    names.push(...page.items.map(({ name }) => name));
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(names).toEqual(volumes.filter(({ labels }) => 'app' in labels).map(({ name }) => name));
});

test('labels of all three are replaced, told of, and chosen by', async () => {
  const node = await catalog.storageNodes.create({
    ...{ id: randomUUID(), name: 'alpha', controlAddress: 'h:1' },
    labels: { zone: 'a' },
  });
  const wanted = { id: randomUUID(), name: 'vault', storageNodeId: node.id, limitBytes: null };
  const repository = await catalog.repositories.create({ ...wanted, labels: { use: 'nightly' } });
  const selector = parseSelector('zone=b');
  expect((await catalog.storageNodes.list({ selector })).items).toEqual([]);
  expect((await catalog.storageNodes.update(node.id, { labels: { zone: 'b' } })).labels).toEqual({
    zone: 'b',
  });
  expect((await catalog.storageNodes.list({ selector })).items).toHaveLength(1);
  expect((await catalog.repositories.list({ selector: parseSelector('use') })).items).toHaveLength(1);
  await catalog.repositories.update(repository.id, { labels: {} });
  expect((await catalog.repositories.list({ selector: parseSelector('use') })).items).toEqual([]);
  const told = (await catalog.events.listAfter(0)).filter(({ subjectId }) => subjectId === node.id);
  expect(told.at(-1)).toMatchObject({ kind: 'storage-node-updated', data: { labels: { zone: 'b' } } });
});
