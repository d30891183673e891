// Every kind of run, by name.
import type { RunRequestKind } from '@tidemark/proto';
import { auditRun } from './audit-run.ts';
import { backupRun } from './backup-run.ts';
import { commitRun } from './commit-run.ts';
import { createCheckpointRun } from './create-checkpoint-run.ts';
import { createGroupRun } from './create-group-run.ts';
import { createRepositoryRun } from './create-repository-run.ts';
import { createSnapshotRun } from './create-snapshot-run.ts';
import { createVolumeRun } from './create-volume-run.ts';
import { deleteCheckpointRun } from './delete-checkpoint-run.ts';
import { deleteGroupRun } from './delete-group-run.ts';
import { deleteRepositoryRun } from './delete-repository-run.ts';
import { deleteVolumeRun } from './delete-volume-run.ts';
import { drainStorageNodeRun } from './drain-storage-node-run.ts';
import { exportRun } from './export-run.ts';
import { finishCommitRun } from './finish-commit-run.ts';
import { moveVolumeRun } from './move-volume-run.ts';
import { pruneRun } from './prune-run.ts';
import { reconcileRun } from './reconcile-run.ts';
import { recoverStorageNodeRun } from './recover-storage-node-run.ts';
import { redefineCheckpointsRun } from './redefine-checkpoints-run.ts';
import { registerStorageNodeRun } from './register-storage-node-run.ts';
import { removeStorageNodeRun } from './remove-storage-node-run.ts';
import { repairDifferenceRun } from './repair-difference-run.ts';
import { replicateRun } from './replicate-run.ts';
import { restoreRun } from './restore-run.ts';
import type { RunDefinition } from './run-definition.ts';
import { scanRepositoryRun } from './scan-repository-run.ts';
import { updateCheckpointRun } from './update-checkpoint-run.ts';
import { verifyRun } from './verify-run.ts';

export const RUN_DEFINITIONS: { readonly [K in RunRequestKind]: RunDefinition<K> } = {
  'register-storage-node': registerStorageNodeRun,
  'remove-storage-node': removeStorageNodeRun,
  'create-volume': createVolumeRun,
  'delete-volume': deleteVolumeRun,
  'move-volume': moveVolumeRun,
  'drain-storage-node': drainStorageNodeRun,
  'recover-storage-node': recoverStorageNodeRun,
  'create-checkpoint': createCheckpointRun,
  'delete-checkpoint': deleteCheckpointRun,
  'update-checkpoint': updateCheckpointRun,
  'redefine-checkpoints': redefineCheckpointsRun,
  'create-snapshot': createSnapshotRun,
  commit: commitRun,
  'finish-commit': finishCommitRun,
  'create-repository': createRepositoryRun,
  'scan-repository': scanRepositoryRun,
  'delete-repository': deleteRepositoryRun,
  verify: verifyRun,
  backup: backupRun,
  export: exportRun,
  restore: restoreRun,
  prune: pruneRun,
  reconcile: reconcileRun,
  'repair-difference': repairDifferenceRun,
  audit: auditRun,
  replicate: replicateRun,
  'create-group': createGroupRun,
  'delete-group': deleteGroupRun,
};
