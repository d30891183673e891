// What every handler shares: errors become those of the catalogue, and calls that change something go
// through the step ledger. A handler itself converts, calls one host method and converts back.
import type { handleUnaryCall, MethodDefinition } from '@grpc/grpc-js';
import { type StepContext, TidemarkError, toServiceError } from '@tidemark/proto';
import { forRun } from '../host/current-run.ts';
import type { RepeatPolicy, StepKey, StepLedger } from '../host/step-ledger.ts';
import { toTidemarkError } from './errors.ts';

/** Told of each failed call, for the log. */
export type CallReport = (failure: {
  method: string;
  error: TidemarkError;
  runId?: string | undefined;
  step?: string | undefined;
}) => void;

/** Told of each step that was carried out, or was answered as before, for the log. */
export type StepReport = (done: { method: string; runId: string; step: string; durationMs: number }) => void;

/** What services need beside their host objects. */
export interface CallContext {
  readonly ledger: StepLedger;
  readonly report: CallReport;
  readonly reportStep?: StepReport | undefined;
}

/** A call that only reads. */
export function query<Request, Answer>(
  { report }: Pick<CallContext, 'report'>,
  definition: MethodDefinition<Request, Answer>,
  action: (request: Request) => Answer | Promise<Answer>,
): handleUnaryCall<Request, Answer> {
  return (call, callback) => {
    const answer = async () => action(call.request);
    answer().then(
      value => callback(null, value),
      (thrown: unknown) => {
        const error = toTidemarkError(thrown);
        const { runId, step } = (call.request as { step?: StepContext }).step ?? {};
        report({ method: definition.path, error, runId, step });
        callback(toServiceError(error));
      },
    );
  };
}

/**
 * A call that changes something. With `answer-again` a repeated step is answered from the ledger; with
 * `do-again` the action runs again and must be good to repeat.
 */
export function step<Request extends { step?: StepContext | undefined }, Answer>(
  context: CallContext,
  definition: MethodDefinition<Request, Answer>,
  repeat: RepeatPolicy,
  action: (request: Request, key: StepKey) => Promise<Answer>,
): handleUnaryCall<Request, Answer> {
  return query(context, definition, async request => {
    const key = keyOf(request.step, definition.path);
    const sinceMs = performance.now();
    const bytes = await context.ledger.perform(key, { method: definition.path, repeat }, async () =>
      definition.responseSerialize(await forRun(key.runId, () => action(request, key))),
    );
    const durationMs = Math.round(performance.now() - sinceMs);
    context.reportStep?.({ method: definition.path, runId: key.runId, step: key.step, durationMs });
    return definition.responseDeserialize(Buffer.from(bytes));
  });
}

function keyOf(context: StepContext | undefined, method: string): StepKey {
  if (context !== undefined) return context;
  throw new TidemarkError(
    'invalid-request',
    `${method} changes something and needs its step: the run's id, the step's name and the lease epoch.`,
  );
}
