// Starts `block-stream`: finds where the stream ends in the chain, in QEMU's order and words, then filter and job.
import { EngineError } from '../errors.ts';
import { CopyOnRead, copyOnReadPermissions } from '../filter/copy-on-read.ts';
import type { BlockGraph } from '../graph/block-graph.ts';
import { belowOf, chainFrom, isFilter, linksDownTo, withoutFilters } from '../graph/chain.ts';
import type { GraphNode } from '../graph/graph-node.ts';
import { assertNodeName } from '../graph/node-names.ts';
import { PERMISSION } from '../graph/permissions.ts';
import type { BackingPointer, ChainAccess } from './chain-access.ts';
import { type ChainPlace, findBelow, findByNodeName } from './chain-place.ts';
import type { OnError } from './error-policy.ts';
import type { JobOptions } from './job-options.ts';
import { JobPlace, launchJob } from './job-place.ts';
import type { JobRegistry } from './job-registry.ts';
import { mainNode } from './launch-mirror.ts';
import { StreamJob, type StreamJobOptions } from './stream-job.ts';

export interface StartStreamOptions extends JobOptions {
  graph: BlockGraph;
  jobs: JobRegistry;
  access: ChainAccess;
  /** Name of the block node that is to be filled. */
  device: string;
  /** The image that the device stands on afterwards; default: none. */
  base?: ChainPlace | undefined;
  /** Instead of `base`: the name of the last block node that is emptied. */
  bottom?: string | undefined;
  /** What the header is to call the base; default: as its opener does. */
  backingFile?: string | undefined;
  /** Default: report. */
  onError?: OnError | undefined;
  filterNodeName?: string | undefined;
  onUnreadable?: StreamJobOptions['onUnreadable'];
  onCancelled?: StreamJobOptions['onCancelled'];
}

/** Resolves with the job started. Rejects with nothing changed. */
export async function startStream(options: StartStreamOptions): Promise<StreamJob> {
  const device = options.graph.get(options.device);
  const base = findEnd(options, device);
  const chain = chainFrom(device);
  const between = chain.slice(0, base === undefined ? undefined : chain.indexOf(base));
  for (const node of base === undefined ? between : [...between, base]) node.assertNotBlocked();
  if (base === undefined && options.backingFile !== undefined) {
    throw invalid('backing file specified, but streaming the entire chain');
  }
  const image = withoutFilters(device);
  const { access } = options;
  let opened = image.readOnly;
  if (opened) await access.setReadOnly(image, false);
  const release = async () => {
    if (opened) await access.setReadOnly(image, true).catch(() => undefined);
    opened = false;
  };
  try {
    return await launch(options, { device, image, base, between, release });
  } catch (error) {
    await release();
    throw error;
  }
}

/** The node that stays below; undefined: none. */
function findEnd(
  { graph, access, base, bottom }: StartStreamOptions,
  device: GraphNode,
): GraphNode | undefined {
  const chain = chainFrom(device);
  if (base?.name !== undefined) return findBelow(graph, access, chain, base, undefined, 1);
  if (base !== undefined) {
    const node = findByNodeName(graph, base.node);
    if (chain.indexOf(node) > 0) return node;
    const text = `Node '${node.name}' is not a backing image of '${device.name}'`;
    throw new EngineError('not-found', text, { node: node.name });
  }
  if (bottom === undefined) return undefined;
  const node = findByNodeName(graph, bottom);
  if (isFilter(node)) throw invalid(`Node '${bottom}' is a filter, use a non-filter node as 'bottom'`);
  if (chain.includes(node)) return belowOf(node);
  const text = `Node '${bottom}' is not in a chain starting from '${device.name}'`;
  throw new EngineError('not-found', text, { node: bottom });
}

interface Parts {
  readonly device: GraphNode;
  readonly image: GraphNode;
  readonly base: GraphNode | undefined;
  /** From the device down to above the base. */
  readonly between: readonly GraphNode[];
  release(): Promise<void>;
}

async function launch(options: StartStreamOptions, parts: Parts): Promise<StreamJob> {
  const { graph, access } = options;
  const { device, image, base, between, release } = parts;
  let filterDriver: CopyOnRead | undefined;
  const makeFilter = () => {
    const made = addFilter(graph, device, options.filterNodeName);
    filterDriver = made.filterDriver;
    return made.filter;
  };
  const user = `stream job '${options.id}'`;
  // Nobody may write to what is being pulled up.
  const shares = PERMISSION.consistentRead | PERMISSION.writeUnchanged;
  const place = new JobPlace({
    graph,
    below: device,
    makeFilter,
    uses: filter => [
      { node: filter, ...mainNode('stream', options.id) },
      { node: filter, user, uses: PERMISSION.consistentRead },
      ...between
        .slice(1)
        .map(node => ({ node, user, userText: user, role: 'intermediate node', uses: 0, shares })),
    ],
    blocked: filter => [...between, filter],
    frozen: filter => linksDownTo(filter, between.at(-1)!),
    written: image,
  });
  const { speedBytesPerSecond: _, onError, ...rest } = options;
  const job = await launchJob(options, place, () => {
    const policies = { onSourceError: onError, onTargetError: onError };
    const pointer = base && pointerTo(base, options);
    const images = between.filter(node => !isFilter(node)).length - 1;
    const ends = { access, image, base, pointer, images, release };
    return new StreamJob({ ...rest, ...policies, ...ends, place, filterDriver: filterDriver! });
  });
  job.start();
  return job;
}

function addFilter(graph: BlockGraph, device: GraphNode, name: string | undefined) {
  let filterDriver: CopyOnRead | undefined;
  try {
    if (name !== undefined) assertNodeName(name);
    const filter = graph.add(
      {
        name: name ?? graph.freeName(),
        owner: 'job',
        children: { file: device.name },
        permissions: copyOnReadPermissions,
        ignoreDiscard: device.ignoreDiscard,
      },
      children => {
        filterDriver = new CopyOnRead(children.file!);
        return filterDriver;
      },
    );
    return { filter, filterDriver: filterDriver! };
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    throw new EngineError(cause.kind, `Could not create node: ${cause.message}`, cause.context, cause);
  }
}

function pointerTo(base: GraphNode, { access, backingFile }: StartStreamOptions): BackingPointer {
  return { path: backingFile ?? access.filenameOf(base), format: withoutFilters(base).driver };
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text);
}
