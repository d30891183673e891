// Goal: what a process counts is what Prometheus reads. Method: the text of a scrape, from each kind of metric.
import { expect, test } from 'vitest';
import { METRICS, ProcessMetrics } from './metrics.ts';
import { startMetricsServer } from './metrics-server.ts';

function metricsOf() {
  const failures: unknown[] = [];
  const metrics = new ProcessMetrics({ failed: error => failures.push(error), runtime: false });
  const lines = async () => (await metrics.text()).body.split('\n').filter(line => !/^#|^$/.test(line));
  return { metrics, failures, lines };
}

test('plain numbers are read at each scrape, and series that are gone are not shown', async () => {
  const { metrics, lines } = metricsOf();
  let volumes: [string, number][] = [
    ['a', 1],
    ['b', 2],
  ];
  let writes = 3;
  metrics.gauge('tidemark_volume_dirty_bytes', () => volumes);
  metrics.counted('tidemark_nbd_bytes_total', () => [['write', writes]]);
  expect(await lines()).toEqual([
    'tidemark_volume_dirty_bytes{volume="a"} 1',
    'tidemark_volume_dirty_bytes{volume="b"} 2',
    'tidemark_nbd_bytes_total{operation="write"} 3',
  ]);
  volumes = [['b', 5]];
  writes = 9;
  expect(await lines()).toEqual([
    'tidemark_volume_dirty_bytes{volume="b"} 5',
    'tidemark_nbd_bytes_total{operation="write"} 9',
  ]);
});

test('buckets that were counted elsewhere are added up, as the format wants them', async () => {
  const { metrics, lines } = metricsOf();
  const buckets = { bounds: [0.001, 0.01], counts: [4, 2, 1], sum: 0.5 };
  metrics.bucketed('tidemark_copy_before_write_wait_seconds', () => buckets);
  const name = 'tidemark_copy_before_write_wait_seconds';
  expect(await lines()).toEqual([
    `${name}_bucket{le="0.001"} 4`,
    `${name}_bucket{le="0.01"} 6`,
    `${name}_bucket{le="+Inf"} 7`,
    `${name}_sum 0.5`,
    `${name}_count 7`,
  ]);
});

test('a source that is away costs its own series alone', async () => {
  const { metrics, lines, failures } = metricsOf();
  metrics.gauge('tidemark_runs', async () => {
    throw new Error('the catalog is away');
  });
  metrics.gauge('tidemark_event_streams', () => [[7]]);
  expect(await lines()).toEqual(['tidemark_event_streams 7']);
  expect(failures).toHaveLength(1);
});

test('names keep to the conventions', () => {
  for (const [name, { type, labels, help }] of Object.entries(METRICS)) {
    expect(name).toMatch(/^tidemark_[a-z0-9_]+$/);
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    expect(help).toMatch(/\.$/);
    for (const label of labels) expect(label).toMatch(/^[a-z_]+$/);
  }
});

test('the server shows metrics at their path alone', async () => {
  const { metrics } = metricsOf();
  metrics.gauge('tidemark_event_streams', () => [[1]]);
  const listen = { host: '127.0.0.1', port: 0 };
  const server = await startMetricsServer({ listen, text: () => metrics.text() });
  const found = await fetch(`http://${server.address}/metrics`);
  expect(found.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(await found.text()).toContain('tidemark_event_streams 1');
  expect((await fetch(`http://${server.address}/`)).status).toBe(404);
  expect((await fetch(`http://${server.address}/metrics`, { method: 'POST' })).status).toBe(404);
  await server.close();
});
