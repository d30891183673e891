// One disk in a block graph with its guest attached, and a target: what every backup story starts from.

import { systemClock } from '../../src/clock.ts';
import type { Attachment } from '../../src/graph/attachment.ts';
import { BlockGraph } from '../../src/graph/block-graph.ts';
import { PERMISSION } from '../../src/graph/permissions.ts';
import { JobRegistry } from '../../src/job/job-registry.ts';
import type { BlockNode } from '../../src/node/block-node.ts';
import { MemoryNode } from '../../src/testing/memory-node.ts';
import { type BackupActionOptions, startBackup } from '../../src/transaction/backup-action.ts';
import { KiB } from '../../src/units.ts';

export const CLUSTER = 64 * KiB;

export interface DiskFixture {
  graph: BlockGraph;
  jobs: JobRegistry;
  guest: Attachment;
  source: MemoryNode;
}

export function makeDisk(options: { sizeBytes: number; source?: BlockNode; target: BlockNode }): DiskFixture {
  const graph = new BlockGraph();
  const source = new MemoryNode({ sizeBytes: options.sizeBytes });
  graph.add({ name: 'disk' }, () => options.source ?? source);
  graph.add({ name: 'target' }, () => options.target);
  const guest = graph.attach('disk', {
    user: "export 'disk'",
    uses: PERMISSION.consistentRead | PERMISSION.write,
  });
  return { graph, jobs: new JobRegistry(systemClock), guest, source };
}

export function backupOf(disk: DiskFixture, options: Partial<BackupActionOptions> = {}) {
  return startBackup({
    id: 'backup0',
    clock: systemClock,
    jobs: disk.jobs,
    source: 'disk',
    target: 'target',
    filterNodeName: 'filter',
    onCbwError: 'break-guest-write',
    cbwTimeoutMs: 0,
    targetIsZero: true,
    ...options,
  });
}

export async function contents(node: BlockNode): Promise<Buffer> {
  const buffer = Buffer.alloc(node.sizeBytes);
  await node.read(0, buffer);
  return buffer;
}

/** A node whose status calls answer later, as an image on another host does. */
export function withAsyncStatus(node: MemoryNode): MemoryNode {
  const extents = node.extents.bind(node);
  node.extents = ((offset: number, length: number) =>
    Promise.resolve(extents(offset, length))) as unknown as MemoryNode['extents'];
  return node;
}
