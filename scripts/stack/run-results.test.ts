// Goal: what runs say of themselves is what the API's description says they do. Method: the real services, one run of
// each kind whose result is described, but for what is lost with a storage node; each result held against its schema.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { resultSchemaOf } from '../../apps/api/src/schemas/run-result.ts';
import { type Answer, Operator } from './testing/operator.ts';

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open({ disk: '2MiB' });
}, 120_000);
afterAll(() => operator?.close());

const post = (path: string, body?: object) => operator.post(path, body);

test('results are as they are described', { timeout: 300_000 }, async () => {
  const of = { volume: 'disk', repository: 'vault' };
  const { backup } = await post('backups', { ...of, checkpoint: 'mon', kind: 'full' });
  await operator.write('disk', 0, Buffer.alloc(65_536, 'tuesday '));
  await post('backups', { ...of, checkpoint: 'tue', kind: 'incremental' });
  await post('volumes/disk/checkpoints', { name: 'wed' });
  await post('volumes/disk/checkpoints/redefine', { validateOnly: true });
  await post('volumes/disk/audit', {});
  await post(`backups/${backup.id}/verify`, {});
  const place = { storageNode: 'alpha', name: 'again' };
  await post('restores', { backup: backup.id, target: { volume: place } });
  await post('restores', { backup: backup.id, target: { file: place } });
  await post('groups', { name: 'both', volumes: ['disk', 'again'] });
  await post('repositories/vault/scan');
  await post('prune', { repository: 'vault', keep: { last: 1 } });
  const opened = await operator.post('exports', { volume: 'disk' }, 'checkpoint');
  const isOpen = (await operator.get(`runs/${opened.run.id}`)) as Answer;
  expect(isOpen.result.uri).toMatch(/^nbd:/);
  expect(resultSchemaOf('export')!.safeParse(isOpen.result).error).toBeUndefined();
  await operator.post(`runs/${opened.run.id}/finish`, undefined, 'accepted');
  await operator.ended(opened.run.id);
  for (const { id } of (await operator.post('reconcile', {}, 'accepted')).runs) await operator.ended(id);
  await post('storage-nodes/alpha/drain', {});

  const { items } = await operator.get('runs?state=succeeded&limit=200');
  const seen = new Set<string>();
  for (const { kind, result } of items) {
    const schema = resultSchemaOf(kind);
    if (schema === undefined) continue;
    expect(schema.safeParse(result).error, `${kind}: ${JSON.stringify(result)}`).toBeUndefined();
    seen.add(kind);
  }
  expect([...seen].sort()).toEqual([
    ...['audit', 'backup', 'create-checkpoint', 'create-group', 'drain-storage-node', 'export', 'prune'],
    ...['reconcile', 'redefine-checkpoints', 'restore', 'scan-repository', 'verify'],
  ]);
});
