// Goal: a guest goes on where its volume is by then, and a flushed write that is not there, or one that nobody sent, is
// a fault. Method: two exports in memory behind a real server, of which the second is a copy of the first.
import { NbdServer } from '@tidemark/nbd';
import { expect, onTestFinished, test } from 'vitest';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { MemoryExport } from '../../packages/nbd/test/memory-export.ts';
import { readStamp } from '../demo/stamped-block.ts';
import { BLOCK_BYTES, SPARE_BYTES } from './limits.ts';
import { SpareGuest } from './spare-guest.ts';

async function serve(): Promise<{ disk: MemoryExport; server: NbdServer; uri: string }> {
  const server = new NbdServer({ connectionsMax: 4 });
  onTestFinished(() => server.close());
  const disk = new MemoryExport({ sizeBytes: SPARE_BYTES });
  server.addExport(disk);
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  if (!('port' in address)) throw new Error('it listens at a port');
  return { disk, server, uri: `nbd://127.0.0.1:${address.port}/disk` };
}

test('it follows its volume, reads what it flushed, and notices what is lost', async () => {
  const [first, second] = [await serve(), await serve()];
  let uri: string | undefined = first.uri;
  const guest = new SpareGuest(async () => uri, new SeededRandom(5));
  guest.start();
  await expect.poll(() => guest.told.writes, { timeout: 30_000 }).toBeGreaterThan(5);
  uri = undefined;
  await first.server.close();
  first.disk.bytes.copy(second.disk.bytes);
  uri = second.uri;
  await expect.poll(() => guest.told.connections, { timeout: 30_000 }).toBe(2);
  const before = guest.told.writes;
  await expect.poll(() => guest.told.writes, { timeout: 30_000 }).toBeGreaterThan(before);
  await guest.stop();
  expect(await guest.check()).toEqual([]);
  expect(guest.faultsOf(first.disk.bytes)).not.toEqual([]);
  const mixed = Buffer.from(second.disk.bytes);
  const written = Array.from({ length: SPARE_BYTES / BLOCK_BYTES }, (_, block) => block * BLOCK_BYTES).find(
    at => readStamp(mixed.subarray(at, at + BLOCK_BYTES)) !== 'blank',
  )!;
  mixed.copyWithin(written === 0 ? BLOCK_BYTES : 0, written, written + BLOCK_BYTES);
  expect(guest.faultsOf(mixed).join()).toMatch(/^block [01] is damaged$/);
});
