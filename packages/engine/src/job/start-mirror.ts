// Starts `blockdev-mirror`: checks in QEMU's order and words, then filter and job.
import { EngineError } from '../errors.ts';
import { chainFrom, isFilter } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { filterPermissions, PERMISSION } from '../graph/permissions.ts';
import { MIRROR_BUFFER_BYTES_DEFAULT, MIRROR_BUFFER_BYTES_MAX } from '../limits.ts';
import { isPowerOfTwo, MiB, SECTOR_BYTES } from '../units.ts';
import type { ChainAccess } from './chain-access.ts';
import { launchMirror, type MirrorOptions } from './launch-mirror.ts';
import type { MirrorJob } from './mirror-job.ts';

/** Marked at the start: the whole disk; what its topmost image holds itself; nothing but what guests write. */
export type MirrorSync = 'top' | 'full' | 'none';

export interface StartMirrorOptions extends MirrorOptions {
  /** Names of block nodes. */
  source: string;
  target: string;
  sync: MirrorSync | 'incremental' | 'bitmap';
  /** Lets the target be read-only in the end where the source is; without it, it stays writable. */
  access?: ChainAccess | undefined;
  /** The block node that the target takes the place of; default: the source. */
  replaces?: string | undefined;
}

const GRANULARITY_BYTES_MAX = 64 * MiB;

/**
 * Resolves with the job started. Rejects with nothing changed, in QEMU's words. Images of different sizes are the
 * job's own failure.
 */
export async function startMirror(options: StartMirrorOptions): Promise<MirrorJob> {
  const { graph } = options;
  const source = graph.get(options.source);
  assertRoot(source);
  const target = graph.get(options.target);
  assertGranularity(options.granularityBytes ?? 0);
  const replaces = findReplaced(options, source);
  if (options.sync === 'bitmap' || options.sync === 'incremental') {
    throw new EngineError('unsupported', `Sync mode '${options.sync}' not supported`);
  }
  const bufferBytes = options.bufferBytes ?? 0;
  if (bufferBytes < 0) throw invalid("Invalid parameter 'buf-size'");
  if (source === target) throw invalid("Can't mirror node into itself");
  source.assertNotBlocked();
  target.assertNotBlocked();
  const job = await launchMirror(options, {
    type: 'mirror',
    source,
    target,
    replaces,
    filterPermissions,
    between: [],
    uses: PERMISSION.write,
    shares: PERMISSION.writeUnchanged,
    release: async ({ pivoted }) => {
      if (pivoted && source.readOnly) await options.access?.setReadOnly(target, true).catch(() => undefined);
    },
    depthMax: { full: Infinity, top: 1, none: 0 }[options.sync],
    blocked: [source, target],
    bufferBytes: Math.min(bufferBytes || MIRROR_BUFFER_BYTES_DEFAULT, MIRROR_BUFFER_BYTES_MAX),
  });
  job.start();
  return job;
}

/** Throws where another block node stands on this one: jobs work on whole chains. */
export function assertRoot(node: GraphNode): void {
  if ([...node.parents].every(edge => edge.role === 'root')) return;
  const hint = `Look at what uses '${node.name}', and name the block node at the top.`;
  throw new EngineError('invalid-argument', 'Need a root block node', { node: node.name, hint });
}

function assertGranularity(bytes: number): void {
  if (bytes === 0) return;
  if (bytes < SECTOR_BYTES || bytes > GRANULARITY_BYTES_MAX) {
    throw invalid("Parameter 'granularity' expects a value in range [512B, 64MB]");
  }
  if (!isPowerOfTwo(bytes)) throw invalid("Parameter 'granularity' expects a power of 2");
}

/** The source, or a filter over it: whoever looks at anything else would suddenly see another disk. */
function findReplaced({ graph, replaces }: StartMirrorOptions, source: GraphNode): GraphNode | undefined {
  if (replaces === undefined) return undefined;
  const node = graph.find(replaces);
  if (node === undefined) {
    throw new EngineError('not-found', `Failed to find node with node-name='${replaces}'`, {
      node: replaces,
    });
  }
  const chain = chainFrom(source);
  const at = chain.indexOf(node);
  if (at >= 0 && chain.slice(0, at).every(isFilter)) return node === source ? undefined : node;
  const text =
    `Cannot replace '${replaces}' by a node mirrored from '${source.name}', because it cannot be guaranteed ` +
    'that doing so would not lead to an abrupt change of visible data';
  throw new EngineError('invalid-argument', text, { node: replaces });
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text);
}
