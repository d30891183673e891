// Commits of a volume's images: intents to start and to end them, and what there is. One of what the guest writes
// to takes two runs, so that nothing is held while an operator thinks.
import { randomUUID } from 'node:crypto';
import type { Catalog, CatalogTransaction, Commit, CommitDecision, Volume } from '@tidemark/catalog';
import { type RunRequest, TidemarkError } from '@tidemark/proto';
import { iso, isoOrNull } from '../moments.ts';
import type { StartedRun } from '../runs/run-json.ts';
import type { RunStarter } from '../runs/run-starter.ts';
import type { CommitJson, CreateCommit } from '../schemas/commit.ts';
import type { PageQuery } from '../schemas/common.ts';
import { findSnapshot } from '../snapshots/snapshot-service.ts';
import { requireOnline } from '../storage-nodes/storage-node-service.ts';
import {
  type CommitEnds,
  requireActiveFlag,
  requireBaseBelowTop,
  requireReadySnapshot,
  requireSomethingBelow,
  requireWaiting,
} from './commit-checks.ts';

const named = (id: string | null, name: string | null) => (id === null ? null : { id, name: name ?? '' });

function toCommitJson(commit: Commit): CommitJson {
  return {
    id: commit.id,
    volumeId: commit.volumeId,
    runId: commit.runId,
    state: commit.state,
    top: named(commit.topSnapshotId, commit.topSnapshot),
    base: named(commit.baseSnapshotId, commit.baseSnapshot),
    shallow: commit.shallow,
    active: commit.active,
    delete: commit.deleteFiles,
    decision: commit.decision,
    lostSnapshots: commit.lostSnapshots,
    error: commit.error,
    createdAt: iso(commit.createdAt),
    finishedAt: isoOrNull(commit.finishedAt),
  };
}

async function findCommit(catalog: CatalogTransaction, volume: Volume, id: string): Promise<Commit> {
  const commit = await catalog.commits.find(volume.id, id);
  if (commit) return commit;
  throw new TidemarkError(
    'commit-not-found',
    `Volume '${volume.name}' has no commit '${id}'. List them with GET /v1/volumes/${volume.name}/commits.`,
  );
}

async function findEnds(
  catalog: CatalogTransaction,
  volume: Volume,
  body: CreateCommit,
): Promise<CommitEnds> {
  requireActiveFlag(volume, body);
  const find = async (ref: string | undefined) => {
    if (ref === undefined) return null;
    const snapshot = await findSnapshot(catalog, volume, ref);
    requireReadySnapshot(volume, snapshot);
    return snapshot;
  };
  const ends = { top: await find(body.top), base: await find(body.base) };
  requireBaseBelowTop(volume, ends);
  await requireSomethingBelow(catalog, volume, ends);
  return ends;
}

export class CommitService {
  readonly #catalog: Catalog;
  readonly #runs: RunStarter;

  constructor(catalog: Catalog, runs: RunStarter) {
    this.#catalog = catalog;
    this.#runs = runs;
  }

  start(volumeRef: string, body: CreateCommit): Promise<StartedRun<{ commit: CommitJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.getReady(volumeRef);
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      const { top, base } = await findEnds(catalog, volume, body);
      const ends = { topSnapshotId: top?.id ?? null, baseSnapshotId: base?.id ?? null };
      const commit = await catalog.commits.create({
        ...{ id: randomUUID(), volumeId: volume.id, runId, ...ends },
        ...{ topSnapshot: top?.name ?? null, baseSnapshot: base?.name ?? null },
        ...{ shallow: body.shallow, active: body.active, deleteFiles: body.delete },
      });
      const run = await catalog.runs.create({
        id: runId,
        kind: 'commit',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        request: {
          ...{ volumeId: volume.id, commitId: commit.id, ...ends },
          ...{ shallow: body.shallow, active: body.active, deleteFiles: body.delete },
          speedBytesPerSecond: body.speedBytesPerSecond ?? null,
        } satisfies RunRequest<'commit'>,
      });
      return { run, commit: toCommitJson(commit) };
    });
  }

  finish(
    volumeRef: string,
    id: string,
    decision: CommitDecision,
  ): Promise<StartedRun<{ commit: CommitJson }>> {
    return this.#runs.start(async (catalog, runId) => {
      const volume = await catalog.volumes.get(volumeRef);
      requireWaiting(volume, await findCommit(catalog, volume, id));
      requireOnline(await catalog.storageNodes.get(volume.storageNodeId));
      await catalog.commits.decide(id, decision, runId);
      const run = await catalog.runs.create({
        id: runId,
        kind: 'finish-commit',
        storageNodeId: volume.storageNodeId,
        volumeId: volume.id,
        request: {
          volumeId: volume.id,
          commitId: id,
          decision,
        } satisfies RunRequest<'finish-commit'>,
      });
      return { run, commit: toCommitJson(await catalog.commits.get(volume.id, id)) };
    });
  }

  async list(volumeRef: string, page: PageQuery) {
    const volume = await this.#catalog.volumes.get(volumeRef);
    const { items, nextCursor } = await this.#catalog.commits.list(volume.id, page);
    return { items: items.map(toCommitJson), nextCursor };
  }

  async get(volumeRef: string, id: string): Promise<CommitJson> {
    const volume = await this.#catalog.volumes.get(volumeRef);
    return toCommitJson(await findCommit(this.#catalog, volume, id));
  }

  async find({ volumeId, id }: { volumeId: string; id: string }): Promise<CommitJson | null> {
    const commit = await this.#catalog.commits.find(volumeId, id);
    return commit && toCommitJson(commit);
  }
}
