// Goal: what workers do, and what the catalog says of each volume, can be scraped. Method: a worker on a real catalog
// with scripted storage nodes, and the text of a scrape.

import { inDatabase } from '@tidemark/catalog/testing';
import { METRICS } from '@tidemark/proto/metrics';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fleet } from './fleet.ts';

let fleet: Fleet;

beforeEach(async () => {
  fleet = await Fleet.open();
});
afterEach(() => fleet.close());

const metrics = { listen: { host: '127.0.0.1', port: 0 }, runtime: false };

async function scrape(address: string | undefined): Promise<Map<string, number>> {
  const text = await (await fetch(`http://${address}/metrics`)).text();
  const lines = text.split('\n').filter(line => /^[a-z]/.test(line));
  return new Map(
    lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

test('runs, and the last good backup of each volume', async () => {
  const worker = await fleet.startWorker({}, { metrics });
  await fleet.furnish();
  await fleet.succeed(await fleet.createVolume('bare'));
  await fleet.succeed(await fleet.backup('monday', 'full'));
  const done = 'tidemark_run_attempts_total{kind="backup",outcome="succeeded"}';
  // The row tells of the end a moment before the worker has counted it.
  await expect.poll(async () => (await scrape(worker.metricsAddress)).get(done), { timeout: 60_000 }).toBe(1);
  const found = await scrape(worker.metricsAddress);
  expect(found.get('tidemark_run_attempts_total{kind="create-volume",outcome="succeeded"}')).toBe(2);
  expect(found.get('tidemark_run_duration_seconds_count{kind="backup",outcome="succeeded"}')).toBe(1);
  expect(found.get('tidemark_run_queue_wait_seconds_count{kind="backup"}')).toBe(1);
  expect(found.get('tidemark_volumes{backed_up="yes"}')).toBe(1);
  expect(found.get('tidemark_volumes{backed_up="no"}')).toBe(1);
  expect(found.get('tidemark_volume_last_good_backup_age_seconds{volume="disk"}')).toBeDefined();
  expect(found.get('tidemark_volume_last_good_backup_duration_seconds{volume="disk"}')).toBeGreaterThan(0);
  expect(found.has('tidemark_volume_last_good_backup_age_seconds{volume="bare"}')).toBe(false);
  expect(found.get('tidemark_runs{state="queued"}')).toBe(0);
});

test('a damaged backup is none, and the one before it counts', async () => {
  const first = await fleet.startWorker();
  await fleet.furnish();
  await fleet.succeed(await fleet.backup('monday', 'full'));
  await fleet.succeed(await fleet.backup('tuesday', 'full'));
  await fleet.stopWorker(first);
  const facts = async () => (await fleet.catalog.metrics.volumes(10)).volumes[0]!;
  await inDatabase(fleet.database.url, client =>
    client.query(`UPDATE backup SET point_in_time = now() - CASE checkpoint_name
      WHEN 'monday' THEN interval '2 days' ELSE interval '1 day' END`),
  );
  expect(Math.round((await facts()).ageSeconds! / 86_400)).toBe(1);
  await inDatabase(fleet.database.url, client =>
    client.query(
      `UPDATE backup SET verify_result = 'damaged', verified_at = now() WHERE checkpoint_name = 'tuesday'`,
    ),
  );
  expect(Math.round((await facts()).ageSeconds! / 86_400)).toBe(2);
  expect(await fleet.catalog.metrics.volumes(0)).toEqual({ volumes: [], leftOut: 1 });
});

test('what waits, and schedules that are late', async () => {
  await fleet.register('alpha');
  await inDatabase(fleet.database.url, client =>
    client.query(`INSERT INTO policy (id, name, definition, enabled, handled_until, next_due_at)
      VALUES (gen_random_uuid(), 'late', '{}', true, now(), now() - interval '90 seconds'),
        (gen_random_uuid(), 'off', '{}', false, now(), NULL)`),
  );
  const counts = await fleet.catalog.metrics.counts();
  expect(counts.runs.find(({ state }) => state === 'queued')?.count).toBe(1);
  expect(counts.scheduleLagSeconds).toBeGreaterThanOrEqual(90);
  expect(counts.scheduleLagSeconds).toBeLessThan(3_600);
});

test('every metric of a worker in the catalogue is shown', async () => {
  const worker = await fleet.startWorker({}, { metrics });
  const text = await (await fetch(`http://${worker.metricsAddress}/metrics`)).text();
  const own = Object.entries(METRICS).filter(([, { service }]) => service === 'worker');
  for (const [name, { type }] of own) expect(text).toContain(`# TYPE ${name} ${type}`);
});
