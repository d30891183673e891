// Goal: while chains of images are merged and pulled up, guests read what they wrote, whatever they write meanwhile;
// afterwards the chain that is left holds the same by itself. Method: seeded guests on qcow2 images in memory whose
// files take random times, compared with a model.
import { describe, expect, it } from 'vitest';
import { systemClock } from '../clock.ts';
import { PassThrough } from '../filter/pass-through.ts';
import type { Attachment } from '../graph/attachment.ts';
import { BlockGraph } from '../graph/block-graph.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { PERMISSION } from '../graph/permissions.ts';
import { rewriteBackingPointer } from '../image/qcow2/backing-pointer.ts';
import { formatQcow2 } from '../image/qcow2/create.ts';
import { readQcow2Header } from '../image/qcow2/header.ts';
import { Qcow2Image } from '../image/qcow2/qcow2-image.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { MemoryNode } from '../testing/memory-node.ts';
import { SeededRandom } from '../testing/seeded-random.ts';
import { KiB } from '../units.ts';
import type { ChainAccess } from './chain-access.ts';
import { JobRegistry } from './job-registry.ts';
import type { MirrorJob } from './mirror-job.ts';
import { startCommit } from './start-commit.ts';
import { startStream } from './start-stream.ts';

const DISK_BYTES = 256 * KiB;
const CLUSTER_BYTES = 4 * KiB;
const LAYERS = ['base', 'one', 'two', 'top'] as const;
const WRITES = 40;

/** A file whose requests take some turns of the loop. */
class SlowFile extends PassThrough {
  readonly driver = 'slow';
  readonly #random: SeededRandom;

  constructor(child: BlockNode, random: SeededRandom) {
    super(child);
    this.#random = random;
  }

  override read(offset: number, buffer: Buffer): Pending {
    return this.#later(() => super.read(offset, buffer));
  }
  override write(offset: number, buffer: Buffer): Pending {
    return this.#later(() => super.write(offset, buffer));
  }
  override writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    return this.#later(() => super.writeZeroes(offset, length, options));
  }

  async #later(request: () => Pending): Promise<void> {
    for (let left = this.#random.int(0, 2); left > 0; left--) await new Promise(setImmediate);
    await request();
  }
}

interface World {
  readonly random: SeededRandom;
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly access: ChainAccess;
  readonly guest: Attachment;
  readonly model: Buffer;
}

/** Four images on one another, each with data of its own. */
async function world(seed: number): Promise<World> {
  const random = new SeededRandom(seed);
  const graph = new BlockGraph();
  const jobs = new JobRegistry(systemClock);
  const drivers = new Map<GraphNode, Qcow2Image>();
  const open = (node: GraphNode): Promise<Qcow2Image> => {
    const [file, backing] = ['file', 'backing'].map(role => node.children.find(edge => edge.role === role));
    return Qcow2Image.open(file!, {
      keepChildren: true,
      ...(backing ? { backing } : { ignoreBacking: true }),
    });
  };
  for (const [index, name] of LAYERS.entries()) {
    const file = new MemoryNode({ sizeBytes: 0 });
    const backing = LAYERS[index - 1];
    await formatQcow2(file, {
      sizeBytes: DISK_BYTES,
      clusterBytes: CLUSTER_BYTES,
      ...(backing && { backing: { path: backing, format: 'qcow2' } }),
    });
    graph.add({ name: `${name}-file` }, () => new SlowFile(file, random));
    const children = { file: `${name}-file`, ...(backing && { backing }) };
    await graph.open({ name, children }, async ({ node }) => {
      const image = await open(node);
      drivers.set(node, image);
      return image;
    });
  }
  const access: ChainAccess = {
    filenameOf: ({ name }) => name,
    isCalled: (node, name) => node.name === name,
    setReadOnly: async () => {},
    async repoint(overlay, pointer) {
      await drivers.get(overlay)!.settle();
      await rewriteBackingPointer(overlay.children.find(edge => edge.role === 'file')!, pointer);
      const image = await open(overlay);
      drivers.set(overlay, image);
      return image;
    },
  };
  const model = Buffer.alloc(DISK_BYTES);
  for (const name of LAYERS) {
    for (let n = 0; n < 6; n++) {
      const { offset, data } = randomWrite(random);
      await graph.get(name).write(offset, data);
      data.copy(model, offset);
    }
  }
  const uses = PERMISSION.consistentRead | PERMISSION.write;
  const guest = graph.attach('top', { user: "export 'guest'", uses });
  return { random, graph, jobs, access, guest, model };
}

function randomWrite(random: SeededRandom): { offset: number; data: Buffer } {
  const offset = random.int(0, DISK_BYTES - 1);
  return { offset, data: random.bytes(random.int(1, Math.min(24 * KiB, DISK_BYTES - offset))) };
}

/** One guest, one request after the other; another one reads. */
async function guestWrites({ random, guest, model }: World): Promise<void> {
  const seen = Buffer.alloc(DISK_BYTES);
  for (let n = 0; n < WRITES; n++) {
    const { offset, data } = randomWrite(random);
    await guest.write(offset, data);
    data.copy(model, offset);
    if (n % 8 !== 0) continue;
    await guest.read(0, seen);
    expect(seen.equals(model), `what the guest reads after write ${n}`).toBe(true);
  }
  await guest.close();
}

async function expectContents({ graph, model }: World, name: string): Promise<void> {
  const seen = Buffer.alloc(DISK_BYTES);
  await graph.get(name).read(0, seen);
  expect(seen.equals(model), `the contents of ${name}`).toBe(true);
}

const chainOf = (graph: BlockGraph, name: string): string[] => {
  const below = graph.get(name).children.find(edge => edge.role === 'backing')?.node.name;
  return below === undefined ? [name] : [name, ...chainOf(graph, below)];
};

const common = ({ graph, jobs, access }: World) => ({
  graph,
  jobs,
  access,
  clock: systemClock,
  id: 'job',
  device: 'top',
});
const seeds = Array.from({ length: 30 }, (_, index) => index + 1);

describe('while a guest writes', () => {
  it.each(seeds)('images in the middle are merged (seed %i)', async seed => {
    const disk = await world(seed);
    const job = await startCommit({ ...common(disk), top: { node: 'two' }, base: { node: 'base' } });
    await Promise.all([guestWrites(disk), job.concluded]);
    expect(job.error).toBeUndefined();
    expect(chainOf(disk.graph, 'top')).toEqual(['top', 'base']);
    const header = await readQcow2Header(disk.graph.get('top-file'));
    expect(header).toMatchObject({ backingPath: 'base', backingFormat: 'qcow2' });
    await expectContents(disk, 'top');
  });

  it.each(seeds)('the topmost image is merged, and the guest moves (seed %i)', async seed => {
    const disk = await world(seed);
    const job = (await startCommit({ ...common(disk), base: { node: 'one' } })) as MirrorJob;
    const done = job.ready.then(() => job.complete());
    await Promise.all([guestWrites(disk), done, job.concluded]);
    expect(job.error).toBeUndefined();
    expect(job.pivoted).toBe(true);
    // A guest that had gone before the pivot was on the top; what it wrote is below as well.
    await expectContents(disk, 'one');
  });

  it.each(seeds)('all is pulled up into the topmost image (seed %i)', async seed => {
    const disk = await world(seed);
    const job = await startStream({ ...common(disk), ...(seed % 2 === 0 ? { base: { node: 'base' } } : {}) });
    await Promise.all([guestWrites(disk), job.concluded]);
    expect(job.error).toBeUndefined();
    expect(chainOf(disk.graph, 'top')).toEqual(seed % 2 === 0 ? ['top', 'base'] : ['top']);
    await expectContents(disk, 'top');
    const { backingPath } = await readQcow2Header(disk.graph.get('top-file'));
    expect(backingPath).toBe(seed % 2 === 0 ? 'base' : undefined);
  });
});
