// The transaction action that starts a backup: filter, frozen bitmap and job appear together at commit.
import type { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import type { Clock } from '../clock.ts';
import { BlockCopy, type BlockCopyOptions, copyClusterBytes } from '../copy/block-copy.ts';
import { validateMinClusterBytes } from '../copy/min-cluster-size.ts';
import { EngineError } from '../errors.ts';
import { CopyBeforeWrite, type OnCbwError } from '../filter/copy-before-write.ts';
import type { WaitHistogram } from '../filter/wait-histogram.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { Edge } from '../graph/edge.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { assertNodeName } from '../graph/node-names.ts';
import { copyBeforeWritePermissions } from '../graph/permissions.ts';
import { BackupJob, type BackupSync, type BitmapMode } from '../job/backup-job.ts';
import { validateWorkers } from '../job/copy-job.ts';
import type { OnError } from '../job/error-policy.ts';
import { type JobOptions, validateJobId } from '../job/job-options.ts';
import type { JobRegistry } from '../job/job-registry.ts';
import type { StagedBitmaps } from './staged-bitmaps.ts';
import type { PrepareContext, PreparedAction, TransactionAction } from './transaction.ts';

export interface BackupActionOptions extends Omit<JobOptions, 'clock'> {
  clock: Clock;
  /** Where is noted how long guest requests waited for their copies. */
  waits?: WaitHistogram | undefined;
  jobs: JobRegistry;
  /** Names of block nodes. */
  source: string;
  target: string;
  /** Default: a name that nobody has. */
  filterNodeName?: string | undefined;
  /** Default: `bitmap` with a bitmap, otherwise `full`. */
  sync?: BackupSync | undefined;
  bitmap?: string | undefined;
  /** Must be given with a bitmap, unless sync is `incremental`. */
  bitmapMode?: BitmapMode | undefined;
  onCbwError: OnCbwError;
  /** 0: a guest write waits for its copy as long as it takes. */
  cbwTimeoutMs: number;
  /** The target reads as zeroes where nothing was written: zeroes are not sent. */
  targetIsZero: boolean;
  workers?: number | undefined;
  /** Default: report. */
  onSourceError?: OnError | undefined;
  onTargetError?: OnError | undefined;
  speedCountsZeroes?: boolean | undefined;
  /** Store compressed what the target can compress. */
  compressed?: boolean | undefined;
  /** Copies of at most this many bytes; 0 or undefined: the default. */
  chunkBytesMax?: number | undefined;
  /** Let the kernel move the bytes where both ends are files. */
  copyRange?: boolean | undefined;
  /** Give back the source's space of what was copied: for a source that nobody needs afterwards. */
  discardSource?: boolean | undefined;
  /** Copy in units of at least this many bytes, a power of two. */
  minClusterBytes?: number | undefined;
  /** What guests read meanwhile is copied on the way, where that costs them nothing. Default false. */
  feedFromReads?: boolean | undefined;
}

/** An action that also tells its job, once the transaction has committed. */
export interface BackupAction extends TransactionAction {
  readonly job: BackupJob | undefined;
}

export function startBackup(options: BackupActionOptions): BackupAction {
  let job: BackupJob | undefined;
  return {
    kind: 'blockdev-backup',
    groupable: true,
    get job() {
      return job;
    },
    nodes: graph => (graph.has(options.source) ? [graph.get(options.source)] : []),
    prepare(graph, staged, context): PreparedAction {
      const prepared = makeJob(graph, staged, { ...options, ...groupOf(context) });
      try {
        prepared.assertStartable();
        prepared.setSpeed(options.speedBytesPerSecond ?? 0);
        prepared.takePlace();
      } catch (error) {
        void prepared.discard();
        throw error;
      }
      return {
        commit: () => {
          prepared.startUnderDrain();
          job = prepared;
        },
        abort: () => {
          prepared.cancelInternally();
          return prepared.concluded;
        },
      };
    },
  };
}

function groupOf({ group }: PrepareContext): Pick<JobOptions, 'group'> {
  return group === undefined ? {} : { group };
}

/**
 * Checks in the order of scenario BK-V15, as far as QEMU keeps it, then makes filter and job without letting
 * them act. What fails leaves nothing behind.
 */
function makeJob(graph: BlockGraph, staged: StagedBitmaps, options: BackupActionOptions): BackupJob {
  const source = findDevice(graph, options.source);
  const target = findDevice(graph, options.target);
  const sync = options.sync ?? (options.bitmap === undefined ? 'full' : 'bitmap');
  const { bitmap, bitmapMode } = chooseBitmap(source, staged, { ...options, sync });
  if (source === target) throw invalid('Source and target cannot be the same');
  if (options.compressed === true && !target.canCompress) {
    throw new EngineError('unsupported', 'Compression is not supported for this drive ', {
      node: target.name,
    });
  }
  source.assertNotBlocked();
  target.assertNotBlocked();
  validatePerformance(options);
  if (bitmapMode !== 'never') bitmap?.assertUsable();
  if (source.sizeBytes !== target.sizeBytes) {
    const hint = `They have ${source.sizeBytes} and ${target.sizeBytes} bytes.`;
    throw new EngineError('invalid-argument', 'Source and target image have different sizes', { hint });
  }
  const { filter, driver, copy } = makeFilter(graph, options);
  try {
    assertChunk(options, copy);
    validateJobId(options.id);
    options.jobs.assertIdFree(options.id);
    const { speedBytesPerSecond: _, ...rest } = options;
    const parts = { graph, source, target, filter, filterDriver: driver, copy, sync, bitmap, bitmapMode };
    const job = new BackupJob({ ...rest, ...parts });
    options.jobs.add(job);
    return job;
  } catch (error) {
    void graph.remove(filter.name);
    throw error;
  }
}

/** QEMU looks for a device of that name first; here every device is a block node. */
function findDevice(graph: BlockGraph, name: string): GraphNode {
  if (graph.has(name)) return graph.get(name);
  const text = `Cannot find device='${name}' nor node-name='${name}'`;
  throw new EngineError('not-found', text, { node: name });
}

interface BitmapChoice {
  bitmap: DirtyBitmap | undefined;
  bitmapMode: BitmapMode | undefined;
}

function chooseBitmap(
  source: GraphNode,
  staged: StagedBitmaps,
  options: BackupActionOptions & { sync: BackupSync },
): BitmapChoice {
  const { sync, bitmap: name } = options;
  let mode = options.bitmapMode;
  if ((sync === 'bitmap' || sync === 'incremental') && name === undefined) {
    throw invalid(`must provide a valid bitmap name for '${sync}' sync mode`);
  }
  if (sync === 'incremental') {
    if (mode !== undefined && mode !== 'on-success') {
      throw invalid("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
    }
    mode = 'on-success';
  }
  if (name === undefined) {
    if (mode !== undefined) throw invalid('Cannot specify bitmap sync mode without a bitmap');
    return { bitmap: undefined, bitmapMode: undefined };
  }
  const bitmap = staged.find(source, name);
  if (bitmap === undefined) {
    throw new EngineError('not-found', `Bitmap '${name}' could not be found`, { node: source.name });
  }
  if (mode === undefined) throw invalid('Bitmap sync mode must be given when providing a bitmap');
  bitmap.assertUsable({ readOnly: true });
  if (sync === 'none') throw invalid("sync mode 'none' does not produce meaningful bitmap outputs");
  if (mode === 'never' && sync !== 'bitmap') {
    const text = `Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '${sync}'`;
    throw invalid(text);
  }
  return { bitmap, bitmapMode: mode };
}

function validatePerformance({ workers, chunkBytesMax, minClusterBytes }: BackupActionOptions): void {
  if (workers !== undefined) validateWorkers(workers);
  if (chunkBytesMax !== undefined && chunkBytesMax < 0) {
    throw invalid('max-chunk must be zero (which means no limit) or positive');
  }
  validateMinClusterBytes(minClusterBytes);
}

function assertChunk({ chunkBytesMax }: BackupActionOptions, { clusterBytes }: BlockCopy): void {
  if (chunkBytesMax === undefined || chunkBytesMax === 0 || chunkBytesMax >= clusterBytes) return;
  throw invalid(`Required max-chunk (${chunkBytesMax}) is less than backup cluster size (${clusterBytes})`);
}

function makeFilter(graph: BlockGraph, options: BackupActionOptions) {
  const parts: { driver?: CopyBeforeWrite; copy?: BlockCopy } = {};
  const create = (children: Record<string, Edge>): CopyBeforeWrite => {
    const source = children.file!;
    const target = children.target!;
    if (target.readOnly || (options.discardSource === true && source.readOnly)) {
      throw new EngineError('denied', 'Block node is read-only', { node: options.target });
    }
    const { targetIsZero, compressed, chunkBytesMax, copyRange, discardSource, minClusterBytes } = options;
    const clusterBytes = copyClusterBytes(target, { minClusterBytes });
    const how = { compressed, chunkBytesMax, copyRange, discardSource, clusterBytes };
    const copyOptions: BlockCopyOptions = { source, target, targetIsZero, ...how };
    const copy = new BlockCopy(copyOptions);
    const driver = new CopyBeforeWrite({ ...options, source, target, copy });
    Object.assign(parts, { driver, copy });
    return driver;
  };
  try {
    if (options.filterNodeName !== undefined) assertNodeName(options.filterNodeName);
    const filter = graph.add(
      {
        name: options.filterNodeName ?? graph.freeName(),
        owner: 'job',
        children: { file: options.source, target: options.target },
        permissions: copyBeforeWritePermissions,
      },
      create,
    );
    assertReplaceable(graph, options.source, filter);
    return { filter, driver: parts.driver!, copy: parts.copy! };
  } catch (cause) {
    throw explained('Could not create node', cause);
  }
}

/** A source that nobody uses yet is looked at when the job is there: only the job makes the filter count. */
function assertReplaceable(graph: BlockGraph, source: string, filter: GraphNode): void {
  const node = graph.get(source);
  const used = [...node.parents].some(edge => edge.parent !== filter);
  if (!used) return;
  try {
    graph.assertInsertable(node, filter);
  } catch (cause) {
    void graph.remove(filter.name);
    throw explained('Could not replace node', cause);
  }
}

/** Errors that are explained already stay as they are. */
function explained(what: string, cause: unknown): unknown {
  if (!(cause instanceof EngineError) || cause.message.startsWith('Could not ')) return cause;
  return new EngineError(cause.kind, `${what}: ${cause.message}`, cause.context, cause);
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text);
}
