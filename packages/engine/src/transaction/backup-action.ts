// The transaction action that starts a backup: filter, frozen bitmap and job appear together at commit.
import type { Clock } from '../clock.ts';
import { BlockCopy } from '../copy/block-copy.ts';
import { EngineError } from '../errors.ts';
import { CopyBeforeWrite, type OnCbwError } from '../filter/copy-before-write.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import type { Edge } from '../graph/edge.ts';
import { copyBeforeWritePermissions } from '../graph/permissions.ts';
import { BackupJob, type BitmapMode } from '../job/backup-job.ts';
import { type JobOptions, validateJobId } from '../job/job.ts';
import type { JobRegistry } from '../job/job-registry.ts';
import type { StagedBitmaps } from './staged-bitmaps.ts';
import type { PreparedAction, TransactionAction } from './transaction.ts';

export interface BackupActionOptions extends Omit<JobOptions, 'clock'> {
  clock: Clock;
  jobs: JobRegistry;
  /** Names of block nodes. */
  source: string;
  target: string;
  filterNodeName: string;
  /** Copy only what this bitmap of the source says; otherwise the whole disk. */
  bitmap?: string;
  /** Must be given with a bitmap. */
  bitmapMode?: BitmapMode;
  onCbwError: OnCbwError;
  /** 0: a guest write waits for its copy as long as it takes. */
  cbwTimeoutMs: number;
  /** The target reads as zeroes where nothing was written: zeroes are not sent. */
  targetIsZero: boolean;
  workers?: number;
}

/** An action that also tells its job, once the transaction has committed. */
export interface BackupAction extends TransactionAction {
  readonly job: BackupJob | undefined;
}

export function startBackup(options: BackupActionOptions): BackupAction {
  let job: BackupJob | undefined;
  return {
    kind: 'blockdev-backup',
    get job() {
      return job;
    },
    nodes: graph => [graph.get(options.source)],
    prepare(graph, staged): PreparedAction {
      const prepared = makeJob(graph, staged, options);
      options.jobs.add(prepared);
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

/** Checks in the order of scenario BK-V15, then makes filter and job without letting them act. */
function makeJob(graph: BlockGraph, staged: StagedBitmaps, options: BackupActionOptions): BackupJob {
  validateJobId(options.id);
  options.jobs.assertIdFree(options.id);
  const source = graph.get(options.source);
  const target = graph.get(options.target);
  const bitmap = options.bitmap === undefined ? undefined : staged.find(source, options.bitmap);
  if (options.bitmap !== undefined && bitmap === undefined) {
    throw new EngineError('not-found', `Bitmap '${options.bitmap}' could not be found`, {
      node: source.name,
    });
  }
  if (bitmap !== undefined && options.bitmapMode === undefined) {
    throw new EngineError('invalid-argument', 'Bitmap sync mode must be given when providing a bitmap');
  }
  bitmap?.assertUsable();
  if (bitmap === undefined && options.bitmapMode !== undefined) {
    throw new EngineError('invalid-argument', 'Cannot specify bitmap sync mode without a bitmap');
  }
  if (source === target) throw new EngineError('invalid-argument', 'Source and target cannot be the same');
  if (source.sizeBytes !== target.sizeBytes) {
    const sizes = `${source.sizeBytes} and ${target.sizeBytes} bytes`;
    throw new EngineError('invalid-argument', `Source and target image have different sizes: ${sizes}`);
  }
  const { filter, driver, copy } = makeFilter(graph, options);
  try {
    graph.assertInsertable(source, filter);
    return new BackupJob({ ...options, graph, source, filter, filterDriver: driver, copy, target, bitmap });
  } catch (error) {
    void graph.remove(filter.name);
    throw error;
  }
}

function makeFilter(graph: BlockGraph, options: BackupActionOptions) {
  const parts: { driver?: CopyBeforeWrite; copy?: BlockCopy } = {};
  const create = (children: Record<string, Edge>): CopyBeforeWrite => {
    const source = children.file!;
    const copy = new BlockCopy({ source, target: children.target!, targetIsZero: options.targetIsZero });
    const driver = new CopyBeforeWrite({ ...options, source, copy });
    Object.assign(parts, { driver, copy });
    return driver;
  };
  const filter = graph.add(
    {
      name: options.filterNodeName,
      children: { file: options.source, target: options.target },
      permissions: copyBeforeWritePermissions,
    },
    create,
  );
  return { filter, driver: parts.driver!, copy: parts.copy! };
}
