// Starts `block-commit`: finds top and base in the chain, in QEMU's order and words, and starts the kind of job that
// fits. Of the topmost image it is a mirror job (CM-03), which has to be told how to end; otherwise a commit job.
import { EngineError } from '../errors.ts';
import { CommitTop, commitTopPermissions } from '../filter/commit-top.ts';
import { commitMirrorPermissions } from '../filter/mirror-top.ts';
import { chainFrom, imagesAbove, isFilter, linksDownTo, withoutFilters } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { assertNodeName } from '../graph/node-names.ts';
import { PERMISSION, PERMISSIONS_ALL } from '../graph/permissions.ts';
import { MIRROR_BUFFER_BYTES_DEFAULT } from '../limits.ts';
import type { BackingPointer, ChainAccess } from './chain-access.ts';
import { type ChainPlace, findBelow } from './chain-place.ts';
import { CommitJob } from './commit-job.ts';
import type { OnError } from './error-policy.ts';
import { JobPlace, launchJob } from './job-place.ts';
import { launchMirror, type MirrorOptions, mainNode, senseless } from './launch-mirror.ts';
import type { MirrorJob } from './mirror-job.ts';
import { assertRoot } from './start-mirror.ts';

export interface StartCommitOptions
  extends Omit<MirrorOptions, 'onSourceError' | 'onTargetError' | 'granularityBytes' | 'copyMode'> {
  access: ChainAccess;
  /** Name of the block node at the top of the chain. */
  device: string;
  /** Default: the device, which is the active kind. */
  top?: ChainPlace | undefined;
  /** Default: the end of the chain. */
  base?: ChainPlace | undefined;
  /** What the overlay's header is to call the base; default: as its opener does. */
  backingFile?: string | undefined;
  onError?: OnError | undefined;
}

/** Resolves with the job started. Rejects with nothing changed. */
export async function startCommit(options: StartCommitOptions): Promise<CommitJob | MirrorJob> {
  const { graph, access } = options;
  const device = graph.get(options.device);
  assertRoot(device);
  const { top, base } = findRange(options, device);
  const isActive = chainFrom(device).slice(0, chainFrom(device).indexOf(top)).every(isFilter);
  if (isActive && options.backingFile !== undefined) {
    throw invalid("'backing-file' specified, but 'top' is the active layer");
  }
  for (const node of chainFrom(top)) {
    node.assertNotBlocked();
    if (node === base) break;
  }
  const restore = await openForWriting(base, access);
  try {
    if (isActive) return await startActive(options, { top, base, restore });
    return await startIntermediate(options, device, { top, base, restore });
  } catch (error) {
    await restore();
    throw error;
  }
}

function findRange(options: StartCommitOptions, device: GraphNode): { top: GraphNode; base: GraphNode } {
  const { graph, access, top: topPlace, base: basePlace } = options;
  const chain = chainFrom(device);
  const top =
    topPlace === undefined
      ? device
      : findBelow(graph, access, chain, topPlace, name => `Top image file ${name} not found`);
  const below = chain.slice(chain.indexOf(top));
  if (basePlace?.name !== undefined) {
    // By its name the base is looked for below the top only.
    const base = findBelow(
      graph,
      access,
      below,
      basePlace,
      name => `Can't find '${name}' in the backing chain`,
      1,
    );
    return { top, base };
  }
  const base = basePlace === undefined ? below.at(-1)! : findBelow(graph, access, below, basePlace);
  if (top === base) throw invalid('cannot commit an image into itself');
  return { top, base };
}

/** Returns the way back, good to repeat; it stays open where somebody writes to it by then. */
async function openForWriting(base: GraphNode, access: ChainAccess): Promise<() => Promise<void>> {
  if (!base.readOnly) return async () => {};
  await access.setReadOnly(base, false);
  let open = true;
  return async () => {
    if (open) await access.setReadOnly(base, true).catch(() => undefined);
    open = false;
  };
}

/** A filter over the base shows what the base does. */
function isOver(base: GraphNode, node: GraphNode): boolean {
  return isFilter(node) && withoutFilters(node) === withoutFilters(base);
}

/** Others may read the base, though it shows no disk that makes sense before the end. */
const BASE_SHARES = PERMISSION.consistentRead | PERMISSION.writeUnchanged | PERMISSION.graphMod;

interface Range {
  readonly top: GraphNode;
  readonly base: GraphNode;
  restore(): Promise<void>;
}

async function startActive(options: StartCommitOptions, { top, base, restore }: Range): Promise<MirrorJob> {
  const { graph } = options;
  const chain = chainFrom(top);
  const grow = base.sizeBytes < top.sizeBytes ? PERMISSION.resize : 0;
  const policies = { onSourceError: options.onError, onTargetError: options.onError };
  const job = await launchMirror(
    { ...options, ...policies },
    {
      type: 'commit',
      source: top,
      target: base,
      filterPermissions: commitMirrorPermissions,
      between: chain.slice(1, chain.indexOf(base)).filter(node => !isOver(base, node)),
      uses: PERMISSION.consistentRead | PERMISSION.write | grow,
      shares: PERMISSIONS_ALL & ~PERMISSION.resize,
      depthMax: imagesAbove(top, base),
      blocked: chain.slice(0, chain.indexOf(base) + 1),
      bufferBytes: options.bufferBytes ?? MIRROR_BUFFER_BYTES_DEFAULT,
      // The guest lives on it from then on, and may do as much as before.
      release: async ({ pivoted }) => {
        if (!pivoted || top.readOnly) await restore();
      },
    },
  );
  try {
    if (grow !== 0) {
      await graph.drainedWithJobs([base], () => base.resize(top.sizeBytes));
      graph.fitBitmaps([base]);
    }
  } catch (error) {
    await job.discard();
    throw error;
  }
  job.start();
  return job;
}

async function startIntermediate(
  options: StartCommitOptions,
  device: GraphNode,
  { top, base, restore }: Range,
): Promise<CommitJob> {
  const { graph } = options;
  const makeFilter = () => {
    if (options.filterNodeName !== undefined) assertNodeName(options.filterNodeName);
    return graph.add(
      {
        name: options.filterNodeName ?? graph.freeName(),
        owner: 'job',
        children: { file: top.name },
        permissions: commitTopPermissions,
        readOnly: true,
      },
      children => new CommitTop(children.file!),
    );
  };
  const chain = chainFrom(top);
  const merged = chain.slice(0, chain.indexOf(base));
  const user = `commit job '${options.id}'`;
  const grow = base.sizeBytes < top.sizeBytes ? PERMISSION.resize : 0;
  const place = new JobPlace({
    graph,
    below: top,
    makeFilter,
    uses: () => [
      { node: device, ...mainNode('commit', options.id) },
      { node: top, user, uses: 0 },
      { node: base, user, uses: PERMISSION.consistentRead | PERMISSION.write | grow, shares: BASE_SHARES },
      ...merged.map(node => ({ node, ...senseless(options.id, isOver(base, node)) })),
    ],
    blocked: () => [device, ...merged, base],
    frozen: filter => linksDownTo(filter, base),
    written: base,
  });
  const { speedBytesPerSecond: _, onError, ...rest } = options;
  const job = await launchJob({ ...options, jobFirst: true }, place, () => {
    const policies = { onSourceError: onError, onTargetError: onError };
    const images = imagesAbove(top, base);
    const pointer = pointerTo(base, options);
    return new CommitJob({ ...rest, ...policies, place, top, base, images, pointer, release: restore });
  });
  job.start();
  return job;
}

function pointerTo(base: GraphNode, { access, backingFile }: StartCommitOptions): BackingPointer {
  const format = chainFrom(base).find(node => !isFilter(node))?.driver;
  return { path: backingFile ?? access.filenameOf(base), format };
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text);
}
