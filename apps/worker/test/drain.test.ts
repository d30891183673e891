// Goal: a drain tells of each volume where it is, whoever moved it. Method: a real worker and catalog, scripted storage
// nodes, and the step of the drain that moves, as it finds what others did after it had listed the volumes.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { drainStorageNodeRun } from '../src/runs/drain-storage-node-run.ts';
import type { RunContext } from '../src/runs/run-definition.ts';
import { Fleet } from './fleet.ts';

let fleet: Fleet;
beforeEach(async () => {
  fleet = await Fleet.open();
  await fleet.startWorker();
  await fleet.furnish();
}, 120_000);
afterEach(() => fleet.close());

test('a volume that somebody else has moved is told as moved, and none as staying', async () => {
  await fleet.succeed(await fleet.createVolume('web', 'beta'));
  const { id } = await fleet.catalog.volumes.get('web');
  const move = drainStorageNodeRun.steps.find(({ name }) => name === 'move')!;
  const context = {
    catalog: fleet.catalog,
    run: { id: '6f0f3f5e-8f5b-4c55-9d59-1c9ad58d0d0e' },
    request: { storageNodeId: fleet.nodeIds.alpha, storageNode: 'alpha', selector: '' },
    output: () => ({ volumeIds: [id], repositories: [] }),
    update: async () => {},
  } as unknown as RunContext<'drain-storage-node'>;
  const { output } = await move.run(context);
  expect(output).toEqual({ moved: [{ name: 'web', to: 'beta' }], stays: [] });
});
