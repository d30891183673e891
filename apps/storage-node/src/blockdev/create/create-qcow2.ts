// `blockdev-create` of a qcow2 image, in a block node that is there or that is opened for it.
import {
  EngineError,
  formatQcow2,
  type GraphNode,
  IMAGE_BYTES_MAX,
  isPowerOfTwo,
  PERMISSION,
  PERMISSIONS_ALL,
  QCOW2_L1_BYTES_MAX,
  SECTOR_BYTES,
} from '@tidemark/engine';
import { z } from 'zod';
import { int64, size } from '../../qmp/arguments.ts';
import type { StorageDaemon } from '../../qmp/storage-daemon.ts';
import { blockdevDrivers } from '../drivers.ts';
import { openChildNode } from '../open-block-node.ts';
import { type BlockdevOptions, blockdevReference, decideCommon } from '../options.ts';

const KiB = 1024;
const CLUSTER_BYTES_DEFAULT = 64 * KiB;
const CLUSTER_BYTES_MIN = 512;
const CLUSTER_BYTES_MAX = 2048 * KiB;
const L2_ENTRY_BYTES = 8;
const REFCOUNT_BITS_DEFAULT = 16;
const REFCOUNT_BITS_MAX = 64;
const BACKING_NAME_BYTES_MAX = 1023;

const driverNames = [...blockdevDrivers.keys()] as [string, ...string[]];

/** In QAPI's order. */
export const createQcow2Options = z.strictObject({
  driver: z.literal('qcow2'),
  file: blockdevReference,
  'data-file': blockdevReference.optional(),
  'data-file-raw': z.boolean().optional(),
  'extended-l2': z.boolean().optional(),
  size,
  version: z.enum(['v2', 'v3']).optional(),
  'backing-file': z.string().optional(),
  'backing-fmt': z.enum(driverNames).optional(),
  encrypt: z.looseObject({ format: z.enum(['aes', 'luks']) }).optional(),
  'cluster-size': size.optional(),
  preallocation: z.enum(['off', 'metadata', 'falloc', 'full']).optional(),
  'lazy-refcounts': z.boolean().optional(),
  'refcount-bits': int64.optional(),
  'compression-type': z.enum(['zlib', 'zstd']).optional(),
});

type Options = z.output<typeof createQcow2Options>;

/** Rejects in QEMU's words; the block node's bytes are then whatever they are, as in QEMU. */
export async function createQcow2Image(options: Options, host: StorageDaemon): Promise<void> {
  const { node, release } = await findFile(options.file as string | BlockdevOptions, host);
  try {
    const attachment = host.graph.attach(node.name, {
      user: 'the one who makes an image of it',
      uses: PERMISSION.consistentRead | PERMISSION.write | PERMISSION.resize,
      shares: PERMISSIONS_ALL & ~(PERMISSION.write | PERMISSION.resize),
    });
    try {
      checkOptions(options);
      const { edge } = attachment;
      // What the node held must not shine through where the new image writes nothing.
      await edge.resize(0);
      await formatQcow2(edge, {
        sizeBytes: options.size,
        clusterBytes: options['cluster-size'] ?? CLUSTER_BYTES_DEFAULT,
        version: options.version === 'v2' ? 2 : 3,
        refcountBits: options['refcount-bits'] ?? REFCOUNT_BITS_DEFAULT,
        compressionType: options['compression-type'] ?? 'zlib',
        lazyRefcounts: options['lazy-refcounts'] ?? false,
        preallocation: options.preallocation ?? 'off',
        ...backingOf(options),
      });
      await edge.flush();
    } finally {
      await attachment.close();
    }
  } finally {
    await release();
  }
}

async function findFile(
  reference: string | BlockdevOptions,
  host: StorageDaemon,
): Promise<{ node: GraphNode; release(): Promise<void> }> {
  if (typeof reference === 'string') return { node: host.graph.get(reference), release: async () => {} };
  const node = await openChildNode(reference, host, { common: decideCommon({}), role: 'file', depth: 0 });
  return { node, release: () => host.graph.release(node) };
}

function backingOf(options: Options) {
  const { 'backing-file': path, 'backing-fmt': format } = options;
  if (path === undefined || path === '') return {};
  if (format === undefined) {
    const hint = "Add 'backing-fmt': what a guest has written must not decide it.";
    throw new EngineError('unsupported', 'Backing file specified without backing format', { hint });
  }
  return { backing: { path, format: format as 'raw' | 'qcow2' } };
}

/** In the order in which QEMU finds faults. */
function checkOptions(options: Options): void {
  const { size: bytes, 'cluster-size': clusterBytes = CLUSTER_BYTES_DEFAULT } = options;
  if (bytes % SECTOR_BYTES !== 0) throw invalid(`Image size must be a multiple of ${SECTOR_BYTES} bytes`);
  const fits = clusterBytes >= CLUSTER_BYTES_MIN && clusterBytes <= CLUSTER_BYTES_MAX;
  if (!isPowerOfTwo(clusterBytes) || !fits) {
    throw invalid('Cluster size must be a power of two between 512 and 2048k');
  }
  checkFeatures(options);
  checkBacking(options);
  const l1Bytes = Math.ceil(bytes / (clusterBytes * (clusterBytes / L2_ENTRY_BYTES))) * L2_ENTRY_BYTES;
  if (bytes > IMAGE_BYTES_MAX || l1Bytes > QCOW2_L1_BYTES_MAX) {
    throw invalid('Could not resize image: Failed to grow the L1 table: File too large');
  }
}

function checkFeatures(options: Options): void {
  const { version = 'v3', 'refcount-bits': refcountBits = REFCOUNT_BITS_DEFAULT } = options;
  const newer = (what: string) =>
    invalid(`${what} compatibility level 1.1 and above (use version=v3 or greater)`);
  if (version === 'v2' && options['lazy-refcounts']) throw newer('Lazy refcounts only supported with');
  if (!isPowerOfTwo(refcountBits) || refcountBits > REFCOUNT_BITS_MAX) {
    throw invalid('Refcount width must be a power of two and may not exceed 64 bits');
  }
  if (version === 'v2' && refcountBits !== REFCOUNT_BITS_DEFAULT) {
    const text =
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)';
    throw invalid(text);
  }
  if (options['data-file-raw'] && options['data-file'] === undefined) {
    throw invalid('data-file-raw requires data-file');
  }
  if (version === 'v2' && options['compression-type'] === 'zstd') {
    throw newer('Non-zlib compression type is only supported with');
  }
  for (const [feature, wanted] of [
    ['extended-l2', options['extended-l2']],
    ['data-file', options['data-file'] !== undefined],
    ['encrypt', options.encrypt !== undefined],
  ] as const) {
    if (wanted) throw new EngineError('unsupported', `qcow2 images with '${feature}' cannot be made here`);
  }
}

function checkBacking(options: Options): void {
  const path = options['backing-file'];
  if (path !== undefined && (options.preallocation ?? 'off') !== 'off') {
    const text = 'Backing file and preallocation can only be used at the same time if extended_l2 is on';
    throw invalid(text);
  }
  if (options['backing-fmt'] !== undefined && path === undefined) {
    throw invalid('Backing format cannot be used without backing file');
  }
  if (path !== undefined && Buffer.byteLength(path) > BACKING_NAME_BYTES_MAX) {
    const format = options['backing-fmt'] ?? '';
    throw invalid(`Could not assign backing file '${path}' with format '${format}': File name too long`);
  }
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text, { hint: 'Look at the options of the image.' });
}
