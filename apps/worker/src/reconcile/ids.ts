// Ids as a storage node tells them: whose things they are, and whose runs are asked for.
import { type Inventory, isId } from '@tidemark/catalog';
import type { NodeView } from './node-view.ts';

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/;

/** A job's id carries the id of what it is for. */
export function idInJob(jobId: string): string | undefined {
  return UUID.exec(jobId)?.[0];
}

/** Of all that the storage node has. */
export function idsOf(node: NodeView): string[] {
  const ids = new Set<string>();
  for (const { volume, snapshots } of node.volumes) {
    ids.add(volume.volumeId);
    for (const { checkpointId } of volume.checkpoints) ids.add(checkpointId);
    for (const { snapshotId } of snapshots) ids.add(snapshotId);
  }
  for (const { repository, backups } of node.repositories) {
    ids.add(repository.repositoryId);
    for (const { backupId } of backups) ids.add(backupId);
  }
  return [...ids];
}

/** What the catalog has no row of, and what was begun on the storage node: only past runs can tell whose it is. */
export function questionableIds(node: NodeView, catalog: Inventory): string[] {
  const { volumes, checkpoints, snapshots, repositories, backups } = catalog;
  const known = new Set(
    [...volumes, ...checkpoints, ...snapshots, ...repositories, ...backups].map(row => row.id),
  );
  const ids = new Set(idsOf(node).filter(id => !known.has(id)));
  for (const { jobId } of node.jobs) ids.add(idInJob(jobId) ?? '');
  for (const { momentId } of node.moments) ids.add(momentId);
  for (const { runId } of node.groups) ids.add(runId);
  for (const { work } of node.repositories) {
    for (const { backupId } of work.partials) ids.add(backupId);
    for (const { runId } of work.open) ids.add(runId);
  }
  return [...ids].filter(isId);
}
