// What runs say of themselves, by their kind.
import type { Schema } from './types.ts';

/** Kinds of runs whose results are described; those of others name what they were about. */
export interface RunResults {
  'create-checkpoint': Schema<'NewCheckpointResult'>;
  backup: Schema<'NewCheckpointResult'>;
  verify: Schema<'VerifyResult'>;
  audit: Schema<'AuditResult'>;
  restore: Schema<'RestoreResult'>;
  export: Schema<'ExportResult'>;
  prune: Schema<'PruneResult'>;
  'scan-repository': Schema<'ScanResult'>;
  'drain-storage-node': Schema<'DrainResult'>;
  'recover-storage-node': Schema<'RecoverResult'>;
  'redefine-checkpoints': Schema<'RedefineResult'>;
  reconcile: Schema<'ReconcileResult'>;
  'create-group': Schema<'GroupResult'>;
}

/** Null for a run of another kind, and for one that has nothing to say yet. */
export function resultOf<Kind extends keyof RunResults>(
  { kind, result }: Schema<'Run'>,
  wanted: Kind,
): RunResults[Kind] | null {
  return kind === wanted ? (result as RunResults[Kind] | null) : null;
}
