// What `query-named-block-nodes` tells of each block node.
import { type DirtyBitmapInfo, FILTER_ROLES, type GraphNode } from '@tidemark/engine';
import { describeSnapshot } from '../image-tool/snapshot-list.ts';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { filenameOf } from './filename.ts';
import { snapshotImageOf } from './internal-snapshots.ts';

/** The youngest first. With `flat`, nothing is told of the images below. */
export function describeBlockNodes(daemon: StorageDaemon, { flat }: { flat: boolean }): Promise<object[]> {
  const nodes = [...daemon.graph.nodes].sort((one, other) => other.sequence - one.sequence);
  return Promise.all(nodes.map(node => describeNode(node, daemon, flat)));
}

async function describeNode(node: GraphNode, daemon: StorageDaemon, flat: boolean): Promise<object> {
  const common = daemon.blockdevs.get(node)?.common;
  const file = filenameOf(node, daemon);
  const backing = backingOf(node);
  const bitmaps = node.bitmaps.query();
  return {
    iops_rd: 0,
    detect_zeroes: node.detectZeroes,
    image: await describeImage(node, daemon, flat),
    iops_wr: 0,
    ro: node.readOnly,
    'node-name': node.name,
    backing_file_depth: flat ? 0 : backingDepth(node),
    drv: node.driver,
    iops: 0,
    bps_wr: 0,
    write_threshold: 0,
    ...(backing && { backing_file: filenameOf(backing, daemon) }),
    ...(bitmaps.length > 0 && { 'dirty-bitmaps': bitmaps.map(describeBitmap) }),
    encrypted: false,
    bps: 0,
    bps_rd: 0,
    cache: {
      'no-flush': common?.cache.noFlush ?? false,
      direct: common?.cache.direct ?? false,
      writeback: true,
    },
    file,
  };
}

async function describeImage(node: GraphNode, daemon: StorageDaemon, flat: boolean): Promise<object> {
  const blockdev = daemon.blockdevs.get(node);
  const backing = flat ? undefined : belowOf(node);
  const snapshots = (await snapshotImageOf(node, daemon)?.snapshots()) ?? [];
  return {
    ...(snapshots.length > 0 && { snapshots: snapshots.map(describeSnapshot) }),
    ...(backing && { 'backing-image': await describeImage(backing, daemon, flat) }),
    'virtual-size': node.sizeBytes,
    filename: filenameOf(node, daemon),
    ...(node.clusterSizeBytes !== undefined && { 'cluster-size': node.clusterSizeBytes }),
    format: node.driver,
    'actual-size': await node.allocatedBytes(),
    ...blockdev?.definition.describeImage?.(blockdev, daemon),
    ...(knowsItsState(node) && { 'dirty-flag': false }),
  };
}

/** Whether the bytes' own place can tell about them. */
/** Drivers that have neither a format nor a file of their own. */
const STATELESS = new Set(['nbd', 'null-co', 'snapshot-access']);

function knowsItsState(node: GraphNode): boolean {
  if (STATELESS.has(node.driver)) return false;
  const below = node.children.find(({ role }) => role === 'file' || role === 'image')?.node;
  return node.clusterSizeBytes !== undefined || below === undefined || knowsItsState(below);
}

function describeBitmap({ granularityBytes, countBytes, ...info }: DirtyBitmapInfo): object {
  return {
    ...(info.name !== undefined && { name: info.name }),
    recording: info.recording,
    persistent: info.persistent,
    busy: info.busy,
    granularity: granularityBytes,
    count: countBytes,
    ...(info.inconsistent && { inconsistent: true }),
  };
}

function backingOf(node: GraphNode): GraphNode | undefined {
  return node.children.find(edge => edge.role === 'backing')?.node;
}

function backingDepth(node: GraphNode): number {
  const below = belowOf(node);
  return below === undefined ? 0 : 1 + backingDepth(below);
}

/** A filter's child counts as an image below it. */
function belowOf(node: GraphNode): GraphNode | undefined {
  const role = FILTER_ROLES[node.driver] ?? 'backing';
  return node.children.find(edge => edge.role === role)?.node;
}
