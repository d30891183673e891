// Puts the filter of a mirror job into its place and makes the job: all at once or nothing.
import { DirtyBitmap } from '../bitmap/dirty-bitmap.ts';
import { type CopyMode, MirrorTop } from '../filter/mirror-top.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { linksDownTo } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import type { AttachOptions } from '../graph/graph-options.ts';
import { assertNodeName } from '../graph/node-names.ts';
import { type ChildPermissions, PERMISSION, PERMISSIONS_ALL } from '../graph/permissions.ts';
import { KiB } from '../units.ts';
import type { JobOptions } from './job-options.ts';
import { JobPlace, launchJob } from './job-place.ts';
import type { JobRegistry } from './job-registry.ts';
import { MirrorJob, type MirrorJobOptions } from './mirror-job.ts';
import type { ErrorPolicies } from './policy-job.ts';

/** What both kinds of mirror jobs are told. */
export interface MirrorOptions extends JobOptions, ErrorPolicies {
  graph: BlockGraph;
  jobs: JobRegistry;
  /** Default: a name that nobody has. */
  filterNodeName?: string | undefined;
  /** Bytes per bit of what has to be copied, a power of two; 0 or undefined: as suits the target. */
  granularityBytes?: number | undefined;
  /** Memory for copies under way. */
  bufferBytes?: number | undefined;
  /** Default: background. */
  copyMode?: CopyMode | undefined;
  /**
   * Called when the target has all there is, on stable storage, with guests at rest: once it has resolved they go on
   * in the target. Where it rejects the job fails, and they go on where they were.
   */
  beforePivot?: (() => Promise<void>) | undefined;
  /** Zeroes may become holes of the target. Default true. */
  unmap?: boolean | undefined;
}

export interface MirrorParts
  extends Pick<MirrorJobOptions, 'type' | 'depthMax' | 'replaces' | 'release' | 'bufferBytes'> {
  readonly source: GraphNode;
  readonly target: GraphNode;
  readonly filterPermissions: ChildPermissions;
  /** Block nodes that nobody may take away meanwhile. */
  readonly blocked: readonly GraphNode[];
  /** Images that the job makes senseless. */
  readonly between: readonly GraphNode[];
  /** Masks of PERMISSION on the target. */
  readonly uses: number;
  readonly shares: number;
}

/** The job reads here, and anybody else may but resize it. */
const HOLD = {
  uses: PERMISSION.consistentRead,
  shares: PERMISSION.consistentRead | PERMISSION.write | PERMISSION.writeUnchanged | PERMISSION.graphMod,
};

/** Resolves with a job that waits for `start`. What fails leaves nothing behind. */
export async function launchMirror(options: MirrorOptions, parts: MirrorParts): Promise<MirrorJob> {
  const { graph, id } = options;
  const { source, target, type, filterPermissions } = parts;
  let filterDriver: MirrorTop | undefined;
  const makeFilter = () => {
    if (options.filterNodeName !== undefined) assertNodeName(options.filterNodeName);
    return graph.add(
      {
        name: options.filterNodeName ?? graph.freeName(),
        owner: 'job',
        children: { file: source.name },
        permissions: filterPermissions,
        readOnly: false,
        // As in QEMU: what guests discard meanwhile stays, on both.
        ignoreDiscard: true,
      },
      children => {
        filterDriver = new MirrorTop(children.file!);
        return filterDriver;
      },
    );
  };
  const user = `${type} job '${id}'`;
  const place = new JobPlace({
    graph,
    below: source,
    makeFilter,
    uses: filter => [
      { node: filter, ...mainNode(type, id) },
      { node: filter, user, ...HOLD },
      { node: target, user, uses: parts.uses, shares: parts.shares },
      ...parts.between.map(node => ({ node, ...senseless(id) })),
    ],
    blocked: filter => [...parts.blocked, filter],
    frozen: filter => (type === 'commit' ? linksDownTo(filter, target) : []),
    written: target,
  });
  const { speedBytesPerSecond: _, ...rest } = options;
  const make = () =>
    new MirrorJob({
      ...rest,
      ...parts,
      place,
      filterDriver: filterDriver!,
      bitmap: newBitmap(source, target, options),
      unmap: options.unmap ?? true,
      copyMode: options.copyMode ?? 'background',
    });
  return launchJob(options, place, make);
}

/** The block node that a job belongs to. */
export function mainNode(type: string, id: string): AttachOptions {
  const user = `${type} job '${id}'`;
  return { user, userText: user, role: 'main node', uses: 0 };
}

/** What a commit job overwrites the base of: nobody may rely on reading it, apart from filters over the base itself. */
export function senseless(id: string, isOverBase = false): AttachOptions {
  const user = `commit job '${id}'`;
  const shares = isOverBase ? PERMISSIONS_ALL : PERMISSIONS_ALL & ~PERMISSION.consistentRead;
  return { user, userText: user, role: 'intermediate node', uses: 0, shares };
}

/** Shown as recording, which the job sees to: when a change has ended, not when it begins. */
class MirrorBitmap extends DirtyBitmap {
  override get recordingBits(): undefined {
    return undefined;
  }
}

const GRANULARITY_MIN = 4 * KiB;
const GRANULARITY_MAX = 64 * KiB;

function newBitmap(source: GraphNode, target: GraphNode, { granularityBytes }: MirrorOptions): DirtyBitmap {
  const cluster = target.clusterSizeBytes ?? GRANULARITY_MAX;
  const suitable = Math.min(Math.max(cluster, GRANULARITY_MIN), GRANULARITY_MAX);
  return new MirrorBitmap(source.sizeBytes, { granularityBytes: granularityBytes || suitable });
}
