// The queue's name, what its queue jobs carry, and their ids. The queue says who works on what now;
// everything else about a run stands in the catalog.
import { z } from 'zod';

export const QUEUE_NAME = 'runs';

export const runPayloadSchema = z.object({ runId: z.uuid(), attempt: z.int().min(1) });

export type RunPayload = z.output<typeof runPayloadSchema>;

/** One queue job for each attempt of a run; adding it again is a no-op. BullMQ refuses `:` in ids. */
export function runJobId({ runId, attempt }: RunPayload): string {
  return `${runId}-${attempt}`;
}

/** Of policies that are due: filled by a job scheduler for each, from the catalog. */
export const POLICY_QUEUE_NAME = 'policies';

export const policyPayloadSchema = z.object({ policyId: z.uuid(), revision: z.int().min(1) });

export type PolicyPayload = z.output<typeof policyPayloadSchema>;
