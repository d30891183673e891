// Goal: an image that cannot be closed when a job lets go of it costs nobody else anything: guests go on, and nothing
// stays open or taken. Method: an active commit whose topmost file fails its flushes from the pivot on.
import { expect, it } from 'vitest';
import { systemClock } from '../clock.ts';
import { Anchor } from '../filter/anchor.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import { filterPermissions, PERMISSION } from '../graph/permissions.ts';
import { formatQcow2 } from '../image/qcow2/create.ts';
import { Qcow2Image } from '../image/qcow2/qcow2-image.ts';
import { FaultyNode } from '../testing/faulty-node.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { KiB } from '../units.ts';
import type { ChainAccess } from './chain-access.ts';
import { JobRegistry } from './job-registry.ts';
import type { MirrorJob } from './mirror-job.ts';
import { startCommit } from './start-commit.ts';

const DISK_BYTES = 256 * KiB;
const LAYERS = ['base', 'middle', 'top'] as const;
const access: ChainAccess = {
  filenameOf: ({ name }) => name,
  isCalled: () => false,
  setReadOnly: async () => {},
  repoint: () => Promise.reject(new Error('an active commit changes no header')),
};

async function chain() {
  const graph = new BlockGraph();
  let file: FaultyNode | undefined;
  for (const [index, name] of LAYERS.entries()) {
    const below = LAYERS[index - 1];
    const backing = below && ({ path: below, format: 'qcow2' } as const);
    const memory = new MemoryNode({ sizeBytes: 0 });
    await formatQcow2(memory, { sizeBytes: DISK_BYTES, ...(backing && { backing }) });
    file = new FaultyNode(memory);
    const faulty = file;
    graph.add({ name: `${name}-file`, owner: 'parents' }, () => faulty);
    const children = { file: `${name}-file`, ...(below && { backing: below }) };
    await graph.open({ name, owner: 'parents', children }, ({ children: { file: image, backing: over } }) =>
      Qcow2Image.open(image!, { keepChildren: true, ...(over && { backing: over }) }),
    );
  }
  const anchor = { name: 'disk', children: { file: 'top' }, permissions: filterPermissions };
  graph.add(anchor, ({ file: child }) => new Anchor(child!));
  const uses = PERMISSION.consistentRead | PERMISSION.write;
  const guest = graph.attach('disk', { user: 'guest', uses });
  return { graph, guest, topFile: file! };
}

it('the guest goes on in the base where the merged image cannot be closed', async () => {
  const { graph, guest, topFile } = await chain();
  await guest.write(0, Buffer.alloc(64 * KiB, 1));
  const job = (await startCommit({
    ...{ graph, access, jobs: new JobRegistry(systemClock), clock: systemClock },
    ...{ id: 'job', device: 'disk', top: { node: 'top' }, base: { node: 'base' } },
    beforePivot: async () => topFile.addRule({ event: 'flush', errno: 'EIO' }),
  })) as MirrorJob;
  await job.ready;
  await guest.write(64 * KiB, Buffer.alloc(64 * KiB, 2));
  job.complete();
  await job.concluded;
  expect([job.error?.stack, job.pivoted]).toEqual([undefined, true]);
  await guest.write(128 * KiB, Buffer.alloc(64 * KiB, 3));
  const seen = Buffer.alloc(192 * KiB);
  await guest.read(0, seen);
  expect([seen[0], seen[64 * KiB], seen[128 * KiB]]).toEqual([1, 2, 3]);
  expect([...graph.nodes].map(({ name }) => name).sort()).toEqual(['base', 'base-file', 'disk']);
  expect(graph.get('base').blockers.size).toBe(0);
  expect([...graph.get('base').parents].map(({ user }) => user)).toHaveLength(1);
  expect(graph.get('base').writers.size).toBe(0);
}, 10_000);
