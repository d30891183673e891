// Checkpoints of a volume: intents to take and delete them, and what there is.
import {
  type Catalog,
  type CatalogTransaction,
  type Checkpoint,
  type DroppedCheckpoint,
  findCheckpoint,
  intendCheckpoint,
  requireFreeCheckpointName,
  type Volume,
} from '@tidemark/catalog';
import { type Checkpoint as LiveCheckpoint, type RunRequest, TidemarkError } from '@tidemark/proto';
import type { LiveFacts } from '../live/live-facts.ts';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type {
  CheckpointJson,
  CreateCheckpoint,
  RedefineCheckpoints,
  UpdateCheckpoint,
} from '../schemas/checkpoint.ts';
import type { PageQuery } from '../schemas/common.ts';
import type { RunJson } from '../schemas/run.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';

/** What the storage node says of it; undefined when it does not answer, or does not have it. */
type Facts = Pick<LiveCheckpoint, 'changedSinceBytes' | 'grownBytes' | 'inconsistent'>;

function toCheckpointJson(checkpoint: Checkpoint, facts?: Facts): CheckpointJson {
  return {
    id: checkpoint.id,
    name: checkpoint.name,
    description: checkpoint.description,
    volumeId: checkpoint.volumeId,
    state: checkpoint.state,
    pointInTime: isoOrNull(checkpoint.pointInTime),
    createdAt: iso(checkpoint.createdAt),
    pinnedUntil: isoOrNull(checkpoint.pinnedUntil),
    originBackupId: checkpoint.originBackupId,
    changedSinceBytes: facts?.changedSinceBytes ?? null,
    grownBytes: facts?.grownBytes ?? null,
    inconsistent: facts?.inconsistent ?? null,
    backups: checkpoint.backups,
  };
}

interface NewCheckpointAnswer {
  checkpoint: CheckpointJson;
  dropped: DroppedCheckpoint[];
}

export class CheckpointService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;
  readonly #facts: LiveFacts;

  constructor(catalog: Catalog, runs: RunStarter, facts: LiveFacts) {
    this.#catalog = catalog;
    this.#runs = runs;
    this.#facts = facts;
  }

  create(volumeRef: string, wanted: CreateCheckpoint): Promise<StartedRun<NewCheckpointAnswer>> {
    return this.#runs.start(async (catalog, runId) => {
      const { checkpoint, ...intent } = await intendCheckpoint(catalog, runId, {
        ...wanted,
        volume: volumeRef,
      });
      return { ...intent, checkpoint: toCheckpointJson(checkpoint) };
    });
  }

  /** Each with what its storage node says at this moment, if it answers. */
  async list(volumeRef: string, page: PageQuery) {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const { items, nextCursor } = await this.#catalog.checkpoints.list(volume.id, page);
    return { items: await this.#withFacts(volume, items), nextCursor };
  }

  async get(volumeRef: string, ref: string): Promise<CheckpointJson> {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const checkpoint = await findCheckpoint(this.#catalog, volume, ref);
    return (await this.#withFacts(volume, [checkpoint]))[0]!;
  }

  async find({ volumeId, id }: { volumeId: string; id: string }): Promise<CheckpointJson | null> {
    const volume = await this.#catalog.volumes.find(volumeId);
    const checkpoint = await this.#catalog.checkpoints.find(volumeId, id);
    return volume && checkpoint && (await this.#withFacts(volume, [checkpoint]))[0]!;
  }

  /**
   * Name, description and pin are the catalog's, and change at once. The storage node keeps a copy of the first
   * two, which a run brings to it: null when neither was changed.
   */
  update(
    volumeRef: string,
    ref: string,
    change: UpdateCheckpoint,
  ): Promise<{ run: RunJson | null; checkpoint: CheckpointJson }> {
    const { pinnedUntil, ...texts } = change;
    const isPin = texts.name === undefined && texts.description === undefined;
    return isPin
      ? this.#pin(volumeRef, ref, moment(pinnedUntil))
      : this.#runs.start((catalog, runId) => rewrite(catalog, runId, { volumeRef, ref, change }));
  }

  async #pin(volumeRef: string, ref: string, pinnedUntil: Date | null | undefined) {
    const updated = await this.#catalog.transaction(async catalog => {
      const volume = await catalog.volumes.getReady(volumeRef);
      const { id } = await findCheckpoint(catalog, volume, ref);
      return catalog.checkpoints.update(id, { pinnedUntil }, null);
    });
    return { run: null, checkpoint: (await this.find(updated))! };
  }

  remove(volumeRef: string, ref: string): Promise<StartedRun<{ checkpoint: CheckpointJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const { id } = await findCheckpoint(catalog, volume, ref);
      await catalog.checkpoints.markDeleting(id, runId);
      const checkpoint = await catalog.checkpoints.get(volume.id, id);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'delete-checkpoint',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        checkpointId: id,
        request: {
          volumeId: volume.id,
          checkpointId: id,
          name: checkpoint.name,
        } satisfies RunRequest<'delete-checkpoint'>,
      });
      return { run, checkpoint: toCheckpointJson(checkpoint) };
    });
  }

  /** Rows of checkpoints that the storage node has and the catalog lost. */
  redefine(volumeRef: string, wanted: RedefineCheckpoints): Promise<StartedRun> {
    const { checkpoints, validateOnly, allowInconsistent } = wanted;
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const definitions = checkpoints?.map(({ id, name = null, description = null }) => ({
        checkpointId: id,
        name,
        description,
      }));
      const run = await catalog.runs.create({
        id: runId,
        kind: 'redefine-checkpoints',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        request: {
          volumeId: volume.id,
          definitions: definitions ?? null,
          validateOnly,
          allowInconsistent,
        } satisfies RunRequest<'redefine-checkpoints'>,
      });
      return { run };
    });
  }

  async #withFacts(volume: Volume, checkpoints: readonly Checkpoint[]): Promise<CheckpointJson[]> {
    const isWorthAsking = checkpoints.some(({ state }) => state !== 'creating');
    const { id: volumeId, storageNodeId } = volume;
    const answer = isWorthAsking
      ? await this.#facts.ask(storageNodeId, (clients, options) =>
          clients.checkpoints.listCheckpoints({ volumeId }, options),
        )
      : null;
    const facts = new Map(answer?.checkpoints.map(live => [live.checkpointId, live]));
    return checkpoints.map(checkpoint => toCheckpointJson(checkpoint, facts.get(checkpoint.id)));
  }
}

const moment = (text: string | null | undefined): Date | null | undefined =>
  typeof text === 'string' ? new Date(text) : text;

/** One after the other: what the storage node has in the end must not hang on which run comes last. */
async function requireNotUpdating(
  catalog: CatalogTransaction,
  volume: Volume,
  { id, name }: Checkpoint,
): Promise<void> {
  const run = await catalog.checkpoints.updatedBy(id);
  if (run === null) return;
  throw new TidemarkError(
    'checkpoint-not-ready',
    `Checkpoint '${name}' of volume '${volume.name}' is being renamed or described by run ${run}. ` +
      'Wait until that run has ended.',
  );
}

interface Rewriting {
  readonly volumeRef: string;
  readonly ref: string;
  readonly change: UpdateCheckpoint;
}

async function rewrite(catalog: CatalogTransaction, runId: string, { volumeRef, ref, change }: Rewriting) {
  const volume = await catalog.volumes.getReady(volumeRef);
  requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
  const before = await findCheckpoint(catalog, volume, ref);
  await requireNotUpdating(catalog, volume, before);
  const { name = before.name, description = before.description, pinnedUntil } = change;
  if (name !== before.name) await requireFreeCheckpointName(catalog, volume, name);
  const texts = { name, description, pinnedUntil: moment(pinnedUntil) };
  const checkpoint = await catalog.checkpoints.update(before.id, texts, runId);
  const run = await catalog.runs.create({
    id: runId,
    kind: 'update-checkpoint',
    storageNodeId: volume.storageNodeId,
    volumeId: volume.id,
    checkpointId: checkpoint.id,
    request: {
      volumeId: volume.id,
      checkpointId: checkpoint.id,
      name,
      description,
      previous: { name: before.name, description: before.description },
    } satisfies RunRequest<'update-checkpoint'>,
  });
  return { run, checkpoint: toCheckpointJson(checkpoint) };
}
