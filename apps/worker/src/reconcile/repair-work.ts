// What a repair has at hand.
import type { RunFact } from '@tidemark/catalog';
import type { StorageNodeClients } from '@tidemark/proto';
import type { RunContext } from '../runs/run-definition.ts';
import type { FoundDifference } from './found-difference.ts';
import type { Look } from './look.ts';

export interface RepairWork {
  readonly context: RunContext<'reconcile' | 'repair-difference'>;
  readonly storageNodeId: string;
  readonly clients: StorageNodeClients;
  readonly look: Look;
  readonly found: FoundDifference;
}

/** The name of a repair's call: each subject has its own. */
export const stepOf = ({ context, found }: RepairWork) => context.call(`repair-${found.subjectId}`);

export const textFact = ({ found }: RepairWork, name: string): string => String(found.facts[name] ?? '');

export const runOf = ({ look }: RepairWork, id: string): RunFact | undefined =>
  look.runs.find(run => run.id === id);
