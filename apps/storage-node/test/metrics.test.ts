// Goal: what guests and copies do is counted and can be scraped. Method: a real storage node, a guest that writes
// while a backup holds its moment, and the text of a scrape.
import { randomUUID } from 'node:crypto';
import { METRICS } from '@tidemark/proto/metrics';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../src/config.ts';
import { StorageNode } from '../src/storage-node.ts';
import { BackupPair, withGuest } from '../src/testing/live-volume.ts';
import { RunningStorageNode } from '../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';

const KiB64 = 65_536;

async function free(): Promise<string> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise(resolve => server.close(resolve));
  return `127.0.0.1:${port}`;
}

const scrape = async (address: string) => (await fetch(`http://${address}/metrics`)).text();

function readValue(text: string, series: string): number {
  const line = text.split('\n').find(one => one.startsWith(`${series} `));
  return Number(line?.slice(series.length + 1) ?? Number.NaN);
}

test('requests, waits for copies, jobs and dirty bytes are shown', async () => {
  const address = await free();
  const source = await RunningStorageNode.start(undefined, { TIDEMARK_METRICS_LISTEN: address });
  const vault = await RunningStorageNode.start();
  const pair = await BackupPair.make(source, vault);
  const before = await scrape(address);
  expect(readValue(before, 'tidemark_nbd_requests_total{operation="write"}')).toBe(0);
  expect(readValue(before, 'tidemark_copy_before_write_wait_seconds_count')).toBe(0);
  expect(before).toMatch(/^tidemark_copy_before_write_wait_p50_seconds NaN$/im);

  await withGuest(pair.volume.exportUri, async guest => {
    for (let n = 0; n < 8; n++) await guest.write(n * KiB64, Buffer.alloc(KiB64, 1));
    // Slow, so that the moment is still kept while the guest overwrites what was not copied.
    const started = await pair.start({ speedBytesPerSecond: 1 });
    for (let n = 0; n < 8; n++) await guest.write(n * KiB64, Buffer.alloc(KiB64, 2));
    await guest.read(0, Buffer.alloc(KiB64));
    await guest.flush();
    const text = await scrape(address);
    expect(readValue(text, 'tidemark_nbd_requests_total{operation="write"}')).toBe(16);
    expect(readValue(text, 'tidemark_nbd_bytes_total{operation="write"}')).toBe(16 * KiB64);
    expect(readValue(text, 'tidemark_nbd_bytes_total{operation="read"}')).toBe(KiB64);
    expect(readValue(text, 'tidemark_nbd_requests_total{operation="flush"}')).toBe(1);
    expect(readValue(text, 'tidemark_nbd_connections')).toBe(1);
    expect(readValue(text, 'tidemark_moments')).toBe(1);
    const waits = readValue(text, 'tidemark_copy_before_write_wait_seconds_count');
    expect(waits).toBeGreaterThan(0);
    expect(waits).toBeLessThanOrEqual(8);
    expect(readValue(text, 'tidemark_copy_before_write_wait_seconds_bucket{le="+Inf"}')).toBe(waits);
    const p50 = readValue(text, 'tidemark_copy_before_write_wait_p50_seconds');
    expect(p50).toBeGreaterThan(0);
    expect(readValue(text, 'tidemark_copy_before_write_wait_p99_seconds')).toBeGreaterThanOrEqual(p50);
    expect(readValue(text, `tidemark_volume_dirty_bytes{volume="${pair.volume.name}"}`)).toBe(8 * KiB64);
    expect(text).toMatch(/tidemark_jobs\{type="backup",state="running"\} 1/);
    await source.clients.jobs.cancelJob({
      step: { runId: randomUUID(), step: 'cancel', leaseEpoch: 1 },
      jobId: started.jobId,
    });
    const ended = 'tidemark_jobs_ended_total{type="backup",outcome="failed"}';
    await expect.poll(async () => readValue(await scrape(address), ended), { timeout: 60_000 }).toBe(1);
  });
});

test('every metric of a storage node in the catalogue is shown, and those of the runtime', async () => {
  const config = parseConfig({
    TIDEMARK_NODE_NAME: 'alpha',
    TIDEMARK_STATE_DIR: await temporaryFolder(),
    TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
    TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
    TIDEMARK_METRICS_LISTEN: '127.0.0.1:0',
  });
  const log = pino({ level: 'silent' });
  const options = { config, log, now: () => Date.now(), version: '0.0.0', runtimeMetrics: true };
  const node = new StorageNode(options);
  onTestFinished(() => node.close());
  await node.start();
  const text = await scrape(node.metricsAddress!);
  const own = Object.entries(METRICS).filter(([, { service }]) => service === 'storage-node');
  for (const [name, { type }] of own) expect(text).toContain(`# TYPE ${name} ${type}`);
  expect(readValue(text, 'tidemark_storage_capacity_bytes')).toBeGreaterThan(
    readValue(text, 'tidemark_storage_available_bytes'),
  );
  expect(text).toContain('process_cpu_seconds_total');
});
