// Goal: scratches of several moments together leave guests the space that one would leave them. Method: real files.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { BlockGraph } from '@tidemark/engine';
import { expect, onTestFinished, test } from 'vitest';
import { diskSpace } from '../host/disk-space.ts';
import { StateStore } from '../host/state-store.ts';
import { MomentScratch } from './moment-scratch.ts';

test('scratches without a limit share what is free', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'scratch-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const host = { graph: new BlockGraph(), store: new StateStore({ folder }) };
  let promisedBytes = 0;
  const scratches: MomentScratch[] = [];
  for (const momentId of ['one', 'two', 'three', 'four']) {
    const options = { momentId, sizeBytes: 2 ** 40, limitBytes: 0, promisedBytes };
    const scratch = await MomentScratch.create(host, options);
    scratches.push(scratch);
    promisedBytes += scratch.leftBytes;
  }
  const { availableBytes } = await diskSpace(folder);
  expect(promisedBytes).toBeGreaterThan(availableBytes * 0.8);
  expect(promisedBytes).toBeLessThan(availableBytes);
  for (const scratch of scratches) await scratch.remove();
  expect(scratches.map(({ leftBytes }) => leftBytes)).toEqual([0, 0, 0, 0]);
});
