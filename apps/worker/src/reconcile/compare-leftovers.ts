// What runs leave behind that nobody goes on with: jobs, moments, partial images, open exports, leases, rows.
import { type Inventory, isId } from '@tidemark/catalog';
import { type Find, hasEnded, type RunsAbout } from './found-difference.ts';
import { idInJob } from './ids.ts';
import type { NodeView } from './node-view.ts';

interface Sides {
  readonly catalog: Inventory;
  readonly node: NodeView;
  readonly runsAbout: RunsAbout;
  readonly nowMs: number;
  /** Nobody works on a run for this long: something is wrong. */
  readonly stuckMs: number;
  readonly storageNodeId: string;
}

const CONCLUDED = 'concluded';

export function compareLeftovers(sides: Sides, find: Find): void {
  compareJobs(sides, find);
  compareMoments(sides, find);
  compareRepositoryWork(sides, find);
  compareCommits(sides, find);
  for (const { backupId, holder, holderId, held } of sides.catalog.leases) {
    if (held) continue;
    const text = `A lease of ${holder} ${holderId} is left, which has ended: it keeps the backup from being pruned.`;
    find('lease-left', backupId, text, { touches: [holderId], safe: 'drop' });
  }
  findStuckRuns(sides, find);
}

function compareJobs({ node, catalog, runsAbout }: Sides, find: Find): void {
  for (const { jobId, type, state } of node.jobs) {
    const id = idInJob(jobId);
    // Streams belong to their volumes, which start them anew by themselves.
    if (id === undefined || type === 'stream') continue;
    // Storage nodes go on with these by themselves, too.
    if (type === 'removal' && state !== CONCLUDED) continue;
    if (catalog.commits.some(commit => commit.id === id)) continue;
    const past = runsAbout(id);
    const isKnown = hasEnded(past);
    // One of a commit keeps its volume busy also when it is over.
    if (state === CONCLUDED && !isKnown && type !== 'commit') continue;
    const whose = past ? `${past.kind} run ${past.id}, which has ${past.state}` : 'nobody the catalog knows';
    const text = `Job '${jobId}' is ${state} on the storage node, and belongs to ${whose}.`;
    const touches = past?.volumeId ? [past.volumeId] : [];
    find('job-left', past?.id ?? id, text, { touches, facts: { jobId }, safe: isKnown ? 'end' : null });
  }
}

function compareMoments({ node, runsAbout }: Sides, find: Find): void {
  for (const { momentId, volumeId, kind } of node.moments) {
    if (!isId(momentId) || !isId(volumeId)) continue;
    const past = runsAbout(momentId);
    const whose = past ? `${past.kind} run ${past.id} has ${past.state}` : 'the catalog knows no run of it';
    const text = `A frozen moment for ${article(kind)} is kept, and takes up scratch space, but ${whose}.`;
    const facts = { momentId, kind };
    find('moment-left', volumeId, text, {
      ...{ touches: [momentId], facts },
      safe: hasEnded(past) ? 'release' : null,
    });
  }
}

const article = (kind: string): string => (/^[aeio]/.test(kind) ? `an ${kind}` : `a ${kind}`);

function compareRepositoryWork({ node, catalog, runsAbout }: Sides, find: Find): void {
  const volumes = new Set([...catalog.volumes, ...catalog.elsewhere].map(({ id }) => id));
  for (const { repository, work } of node.repositories) {
    const { repositoryId, name } = repository;
    for (const { backupId } of work.partials) {
      if (!isId(backupId)) continue;
      const past = runsAbout(backupId);
      const whose = past ? `${past.kind} run ${past.id} has ${past.state}` : 'the catalog knows no run of it';
      const text = `Repository '${name}' holds the partial image of a backup; ${whose}.`;
      find('partial-left', backupId, text, {
        ...{ touches: [repositoryId], facts: { repositoryId } },
        safe: hasEnded(past) ? 'discard' : null,
      });
    }
    for (const { backupId, runId, durable } of work.open) {
      // A durable one is its volume's, whose id it was opened with, until that has pulled all of it.
      if (!isId(backupId) || (durable && catalog.readBackupIds.includes(backupId))) continue;
      const standsAlone = durable && volumes.has(runId);
      const past = runsAbout(runId);
      const whose = past ? `${past.kind} run ${past.id} has ${past.state}` : `nothing is known of ${runId}`;
      const text = `Repository '${name}' exports a backup for reading; ${whose}.`;
      find('open-backup-left', backupId, text, {
        ...{ touches: [repositoryId, runId], facts: { repositoryId, runId } },
        // A volume that the catalog does not know may read from a durable one.
        safe: standsAlone || (hasEnded(past) && !durable) ? 'close' : null,
      });
    }
  }
}

function compareCommits({ catalog, node }: Sides, find: Find): void {
  const jobs = new Set(node.jobs.map(({ jobId }) => jobId));
  for (const { id, volumeId, state } of catalog.commits) {
    if (jobs.has(`commit-${id}`)) continue;
    const text =
      `Commit ${id} is ${state} by its row, and its storage node has no job of it: it was restarted meanwhile. The ` +
      'guest goes on where it was, with all its data.';
    find('commit-differs', id, text, { touches: [volumeId], facts: { volumeId }, safe: 'end' });
  }
}

function findStuckRuns(sides: Sides, find: Find): void {
  const { catalog, nowMs, stuckMs, storageNodeId } = sides;
  const volumes = new Set(catalog.volumes.map(({ id }) => id));
  const repositories = new Set(catalog.repositories.map(({ id }) => id));
  const seen = new Set<string>();
  for (const run of catalog.liveRuns) {
    const isOurs =
      run.storageNodeId === storageNodeId ||
      (run.volumeId !== null && volumes.has(run.volumeId)) ||
      // Of a group it is about many.
      (run.kind === 'create-group' && run.ids.some(id => volumes.has(id))) ||
      (run.repositoryId !== null && repositories.has(run.repositoryId));
    if (!isOurs || seen.has(run.id)) continue;
    seen.add(run.id);
    const silentMs = nowMs - (run.silentSince?.getTime() ?? nowMs);
    if (silentMs < stuckMs) continue;
    const text =
      `${run.kind} run ${run.id} is ${run.state}, and nobody has worked on it for ${Math.round(silentMs / 60_000)} ` +
      'minutes. Look at the log of the worker and at the queue, or cancel it.';
    find('run-stuck', run.id, text);
  }
}
