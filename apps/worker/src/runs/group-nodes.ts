// The storage nodes of a group: asked all at once, and a failure names the members that it is about.
import type { StorageNodeClients, TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { isSuperseded, JobFailed, toTidemarkError } from '../errors.ts';
import type { RunContext } from './run-definition.ts';

export type GroupContext = RunContext<'create-group'>;

const range = z.object({ offset: z.number(), length: z.number() });

const plannedMember = z.object({
  volumeId: z.string(),
  volume: z.string(),
  checkpointId: z.string(),
  /** Of a backup; null: of a checkpoint alone. */
  backup: z
    .object({
      backupId: z.string(),
      /** Empty: full. */
      baseCheckpointId: z.string(),
      parentBackupId: z.string().nullable(),
      also: z.array(range),
    })
    .nullable(),
});

const planned = z.object({
  nodes: z.array(
    z.object({ storageNodeId: z.string(), storageNode: z.string(), members: z.array(plannedMember) }),
  ),
});

export type PlannedMember = z.output<typeof plannedMember>;
export type PlannedNode = z.output<typeof planned>['nodes'][number];

export const RESOLVE = 'resolve';

/** Empty until the members were looked up. */
export function nodesOf(context: GroupContext): PlannedNode[] {
  return context.findOutput(RESOLVE, planned)?.nodes ?? [];
}

/** Some storage nodes did not do as they were asked; the others have, or may have. */
export class NodesFailed extends Error {
  override name = 'NodesFailed';
  readonly failures: readonly { node: PlannedNode; error: TidemarkError }[];

  constructor(failures: readonly { node: PlannedNode; error: TidemarkError }[]) {
    super(failures.map(({ error }) => error.message).join(' '));
    this.failures = failures;
  }
}

/**
 * On all at once; resolves when the last has answered, in the order of the storage nodes. Rejects with `NodesFailed`
 * when all have ended, and at once with what says that the run is somebody else's.
 */
export async function onAll<T>(
  context: GroupContext,
  nodes: readonly PlannedNode[],
  act: (clients: StorageNodeClients, node: PlannedNode) => Promise<T>,
): Promise<T[]> {
  const work = nodes.map(async node => act(await context.storageNodes.get(node.storageNodeId), node));
  const settled = await Promise.allSettled(work);
  const failures: { node: PlannedNode; error: TidemarkError }[] = [];
  for (const [index, one] of settled.entries()) {
    if (one.status === 'fulfilled') continue;
    if (isSuperseded(one.reason)) throw one.reason;
    failures.push({ node: nodes[index]!, error: toTidemarkError(one.reason) });
  }
  if (failures.length > 0) throw new NodesFailed(failures);
  return settled.map(one => (one as PromiseFulfilledResult<T>).value);
}

/** Rejects with what the first of them said: it may be tried again. */
export function firstOf(error: unknown): never {
  throw error instanceof NodesFailed ? error.failures[0]!.error : error;
}

/**
 * Notes at the group's members which of them failed. Returns what the run is to fail with: it is not tried again, as
 * the instant of the others has passed.
 */
export async function tellFailure(context: GroupContext, thrown: unknown): Promise<JobFailed> {
  const { request, catalog } = context;
  if (!(thrown instanceof NodesFailed)) {
    const error = toTidemarkError(thrown);
    return new JobFailed(error.code, error.message, thrown);
  }
  for (const { node, error } of thrown.failures) {
    for (const { volumeId } of membersMeant(node, error)) {
      const failure = { code: error.code, message: error.message };
      await catalog.groups.setMember(request.groupId, volumeId, { state: 'failed', error: failure });
    }
  }
  const [first, ...others] = thrown.failures;
  const { node, error } = first!;
  const names = membersMeant(node, error).map(({ volume }) => `'${volume}'`);
  const more =
    others.length > 0 ? ` So did storage node ${others.map(one => one.node.storageNode).join(', ')}.` : '';
  const text =
    `Group '${request.name}' failed at ${names.length > 1 ? 'volumes' : 'volume'} ${names.join(', ')} of storage ` +
    `node ${node.storageNode}: ${error.message}${more} Nothing of the group is left; make it again.`;
  return new JobFailed(error.code, text, thrown);
}

/** Those that its message names, else all of the storage node. */
function membersMeant({ members }: PlannedNode, { message }: TidemarkError): readonly PlannedMember[] {
  const named = members.filter(
    ({ volume, volumeId }) => message.includes(`'${volume}'`) || message.includes(volumeId),
  );
  return named.length > 0 ? named : members;
}
