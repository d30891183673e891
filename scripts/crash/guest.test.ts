// Goal: whoever lets a guest pause is told when it does, whatever others ask of it meanwhile, and it goes on when it
// may. Method: a guest of a disk in memory whose requests wait for a gate.
import { NbdServer } from '@tidemark/nbd';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { MemoryExport } from '../../packages/nbd/test/memory-export.ts';
import { DiskModel } from './disk-model.ts';
import { Guest } from './guest.ts';
import { DISK_BLOCKS, DISK_BYTES } from './limits.ts';

let server: NbdServer;
let disk: MemoryExport;
let guest: Guest;

beforeEach(async () => {
  server = new NbdServer({ connectionsMax: 1 });
  disk = new MemoryExport({ sizeBytes: DISK_BYTES });
  server.addExport(disk);
  const address = await server.listen({ host: '127.0.0.1', port: 0 });
  if (!('port' in address)) throw new Error('it listens at a port');
  const model = new DiskModel(DISK_BLOCKS);
  guest = new Guest({ uri: `nbd://127.0.0.1:${address.port}/disk`, model, random: new SeededRandom(1) });
  guest.move();
  await guest.start();
});
afterEach(async () => {
  await guest.close();
  await server.close();
});

test('a pause ends with what was under way, also when another lets the guest go on before that', async () => {
  const gate = Promise.withResolvers<void>();
  disk.gate = gate.promise;
  await expect.poll(() => disk.calls.length).toBeGreaterThan(0);
  const first = guest.pause();
  guest.resume();
  const second = guest.pause();
  guest.resume();
  disk.gate = undefined;
  gate.resolve();
  await Promise.all([first, second]);
  const before = disk.calls.length;
  await expect.poll(() => disk.calls.length).toBeGreaterThan(before);
  await guest.rest();
  const resting = disk.calls.length;
  guest.resume();
  await guest.pause();
  expect(disk.calls.length).toBe(resting);
  expect(guest.faults).toEqual([]);
});
