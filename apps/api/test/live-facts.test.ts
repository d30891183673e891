// Goal: what storage nodes know at this moment is in the answers, and a storage node that is away holds nothing up.
// Method: a storage node that is told what to say; the api over HTTP where the pace of a reader matters.
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { ChangedBlocks } from '@tidemark/proto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LiveStorageNode } from './support/live-storage-node.ts';
import { TestApi } from './support/test-api.ts';

const GRANULE = 65_536;
const SIZE = 64 * 1024 * GRANULE;
const CHECKPOINTS = '/v1/volumes/disk/checkpoints';
const BLOCKS = '/v1/volumes/disk/changed-blocks';
const NDJSON = { accept: 'application/x-ndjson' };

let api: TestApi;
let alpha: LiveStorageNode;
let since: string;
let until: string;

beforeEach(async () => {
  api = await TestApi.start();
  alpha = await LiveStorageNode.start();
  await api.storageNode('alpha', alpha.address);
  await api.volume('disk', 'alpha', SIZE);
  [since, until] = [await take('one'), await take('two')];
});
afterEach(async () => {
  alpha.stop();
  await api.close();
});

async function take(name: string): Promise<string> {
  const { body } = await api.call('POST', CHECKPOINTS, { name });
  const worker = await api.worker(body.run.id);
  await worker.reachCheckpoint();
  await worker.succeed();
  return body.checkpoint.id;
}

/** One extent of one granule in every two, so many in each part. */
function script(parts: number, rangesOfPart: number): void {
  alpha.parts = Array.from({ length: parts }, (_, part) => {
    const ranges = Array.from({ length: rangesOfPart }, (_range, index) => ({
      offset: (part * rangesOfPart + index) * 2 * GRANULE,
      length: GRANULE,
    }));
    const isLast = part === parts - 1;
    const nextOffset = isLast ? SIZE : ranges.at(-1)!.offset + GRANULE;
    return ChangedBlocks.fromPartial({ ranges, nextOffset, granularityBytes: GRANULE });
  });
}

/** More than any buffer takes. */
function flood(): void {
  const ranges = Array.from({ length: 8192 }, (_, index) => ({
    offset: index * 2 * GRANULE,
    length: GRANULE,
  }));
  const part = ChangedBlocks.fromPartial({ ranges, nextOffset: 1, granularityBytes: GRANULE });
  alpha.parts = Array.from({ length: 1_000 }, () => part);
}

const page = (query: string) => api.call('GET', `${BLOCKS}?since=one&${query}`);

describe('checkpoints', () => {
  test('show what changed since, what a crash added, and whether that is known', async () => {
    alpha.facts.set(since, { changedSinceBytes: 3 * GRANULE, grownBytes: GRANULE });
    alpha.facts.set(until, { inconsistent: true });
    const { body } = await api.call('GET', CHECKPOINTS);
    expect(body.items).toMatchObject([
      { name: 'one', changedSinceBytes: 3 * GRANULE, grownBytes: GRANULE, inconsistent: false },
      { name: 'two', changedSinceBytes: 0, grownBytes: 0, inconsistent: true },
    ]);
    expect((await api.call('GET', `${CHECKPOINTS}/one`)).body.changedSinceBytes).toBe(3 * GRANULE);
  });

  const unknown = { changedSinceBytes: null, grownBytes: null, inconsistent: null };

  test('show nothing of the kind for what the storage node does not have, or when it is down', async () => {
    alpha.facts.set(since, { changedSinceBytes: GRANULE });
    expect((await api.call('GET', `${CHECKPOINTS}/two`)).body).toMatchObject(unknown);
    alpha.stop();
    const { status, body } = await api.call('GET', CHECKPOINTS);
    expect(status).toBe(200);
    expect(body.items).toMatchObject([unknown, unknown]);
  });

  test('are not waited for: a storage node that hangs costs a moment', async () => {
    alpha.hangs = true;
    const began = performance.now();
    const { body } = await api.call('GET', CHECKPOINTS);
    expect(body.items).toMatchObject([unknown, unknown]);
    expect(performance.now() - began).toBeLessThan(15_000);
  });
});

describe('changes', () => {
  test('come in pages, which together are all of them', async () => {
    script(3, 10);
    const offsets: number[] = [];
    let offset: number | null = 0;
    let pages = 0;
    while (offset !== null) {
      const { body } = await page(`limit=7&offset=${offset}`);
      expect(body.granularityBytes).toBe(GRANULE);
      expect(body.extents.length).toBeLessThanOrEqual(7);
      alpha.parts = alpha.parts.map(part => ({
        ...part,
        ranges: part.ranges.filter(range => range.offset >= (body.nextOffset ?? SIZE)),
      }));
      offsets.push(...body.extents.map((extent: { offset: number }) => extent.offset / GRANULE));
      offset = body.nextOffset;
      pages += 1;
    }
    expect(offsets).toEqual(Array.from({ length: 30 }, (_, index) => 2 * index));
    expect(pages).toBe(5);
    expect(alpha.requests[0]).toMatchObject({ sinceCheckpointId: since, untilCheckpointId: '', offset: 0 });
  });

  test('between two checkpoints are asked for by their ids', async () => {
    script(1, 2);
    const { body } = await page('until=two');
    expect(body).toEqual({
      granularityBytes: GRANULE,
      extents: [
        { offset: 0, length: GRANULE },
        { offset: 2 * GRANULE, length: GRANULE },
      ],
      nextOffset: null,
    });
    expect(alpha.requests[0]).toMatchObject({ sinceCheckpointId: since, untilCheckpointId: until });
    const count = await api.call('GET', `/v1/volumes/disk/changed-bytes?since=${since}`);
    expect(count.body).toEqual({ changedBytes: 131_072, granularityBytes: GRANULE });
  });

  test('are refused with what is wrong', async () => {
    await api.refused('checkpoint-not-found', 'GET', `${BLOCKS}?since=none`);
    await api.refused('invalid-request', 'GET', BLOCKS);
    await api.refused('invalid-request', 'GET', `${BLOCKS}?since=one&limit=0`);
    await api.refused('volume-not-found', 'GET', '/v1/volumes/none/changed-bytes?since=one');
    alpha.refusal = 'checkpoint-inconsistent';
    await api.refused('checkpoint-inconsistent', 'GET', `${BLOCKS}?since=one`);
    await api.refused('checkpoint-inconsistent', 'GET', '/v1/volumes/disk/changed-bytes?since=one');
    const answer = await api.app.inject({ url: `${BLOCKS}?since=one`, headers: NDJSON });
    expect(answer.json()).toMatchObject({ code: 'checkpoint-inconsistent', status: 409 });
    alpha.stop();
    await api.refused('storage-node-unreachable', 'GET', `${BLOCKS}?since=one`);
  });

  test('stream as lines, of which the last one says that it is the last', async () => {
    script(3, 1000);
    const answer = await api.app.inject({ url: `${BLOCKS}?since=one`, headers: NDJSON });
    expect(answer.headers['content-type']).toBe('application/x-ndjson');
    const lines = answer.body
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line));
    expect(lines).toHaveLength(3001);
    expect(lines[2999]).toEqual({ offset: 5998 * GRANULE, length: GRANULE });
    expect(lines[3000]).toEqual({ end: true, granularityBytes: GRANULE, extents: 3000 });
  });

  test('a reader who does not read holds the storage node back; one who leaves ends it', async () => {
    flood();
    await api.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = api.app.server.address() as AddressInfo;
    const leaving = new AbortController();
    const answer = await fetch(`http://127.0.0.1:${port}${BLOCKS}?since=one`, {
      headers: NDJSON,
      signal: leaving.signal,
    });
    const reader = answer.body!.getReader();
    await reader.read();
    let before = -1;
    await vi.waitFor(
      async () => {
        const { taken } = alpha;
        await delay(100);
        const isStill = taken === before;
        before = taken;
        expect(isStill).toBe(true);
      },
      { timeout: 10_000, interval: 50 },
    );
    expect(alpha.taken).toBeLessThan(200);
    expect(alpha.gone).toBe(false);
    leaving.abort();
    await reader.read().catch(() => {});
    await vi.waitFor(() => expect(alpha.gone).toBe(true), 5_000);
  });

  test('a storage node that goes away breaks the lines off without the last one', async () => {
    flood();
    await api.app.listen({ host: '127.0.0.1', port: 0 });
    const { port } = api.app.server.address() as AddressInfo;
    const answer = await fetch(`http://127.0.0.1:${port}${BLOCKS}?since=one`, { headers: NDJSON });
    const reader = answer.body!.getReader();
    await reader.read();
    alpha.stop();
    const drain = async () => {
      for (;;) if ((await reader.read()).done) return;
    };
    await expect(drain()).rejects.toThrow();
  });
});
