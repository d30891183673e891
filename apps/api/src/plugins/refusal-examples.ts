// What each refusal of a call looks like: one problem document for each of its codes.
import { ERROR_CODES, type ErrorCode } from '@tidemark/proto';
import { EXAMPLE_IDS } from '../schemas/common.ts';
import { PROBLEM_TYPE, type Problem } from '../schemas/problem.ts';
import { PROBLEM_DETAILS } from '../schemas/problem-details.ts';

export interface Operation {
  operationId?: string;
  parameters?: object[];
  requestBody?: object;
  responses?: Record<string, { description: string; content?: Record<string, object> }>;
}

export interface RefusalExample {
  summary: string;
  value: Problem;
}

/** Those that routes and headers have written into the words of an answer. */
const CODE = /`([a-z-]+)`: /g;
const FIRST_REFUSAL = '400';

/** What was asked for, by how the code begins. */
const PLACES: readonly (readonly [prefix: string, path: string])[] = [
  ['storage-node-', '/v1/storage-nodes/alpha'],
  ['join-token-', '/v1/storage-nodes/join'],
  ['token-', '/v1/tokens/dashboard'],
  ['checkpoint-', '/v1/volumes/web-01/checkpoints/monday'],
  ['snapshot-', '/v1/volumes/web-01/snapshots/before-upgrade'],
  ['commit-', `/v1/volumes/web-01/commits/${EXAMPLE_IDS.commit}`],
  ['group-', '/v1/groups/before-upgrade'],
  ['repository-', '/v1/repositories/vault'],
  ['backup-', `/v1/backups/${EXAMPLE_IDS.backup}`],
  ['replication-rule-', '/v1/replication-rules/away'],
  ['policy-', '/v1/policies/nightly'],
  ['firing-', `/v1/policies/nightly/firings/${EXAMPLE_IDS.firing}`],
  ['webhook-', '/v1/webhooks/ops'],
  ['run-', `/v1/runs/${EXAMPLE_IDS.run}`],
  ['event', '/v1/events'],
  ['volume-', '/v1/volumes/web-01'],
  ['not-ready', '/readyz'],
  ['route-', '/v1/disks'],
];
const OTHER_PLACE = '/v1/volumes';

function exampleOf(code: ErrorCode): RefusalExample {
  const { title, http } = ERROR_CODES[code];
  const type = `urn:tidemark:problem:${code}`;
  const instance = PLACES.find(([prefix]) => code.startsWith(prefix))?.[1] ?? OTHER_PLACE;
  const value: Problem = {
    ...{ type, title, status: http, detail: PROBLEM_DETAILS[code], instance, code, requestId: 'req-1f' },
    ...(code === 'wait-timed-out' && { runId: EXAMPLE_IDS.run }),
    ...(code === 'not-ready' && { missing: ['catalog' as const] }),
    ...(code === 'invalid-request' && {
      errors: [{ in: 'body' as const, field: 'name', message: 'is missing; send a string' }],
    }),
  };
  return { summary: title, value };
}

/** Lets its refusals show the codes that their words name; they are added to `examples`. */
export function withRefusalExamples(operation: Operation, examples: Record<string, RefusalExample>): void {
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    if (status < FIRST_REFUSAL) continue;
    const codes = [...response.description.matchAll(CODE)].map(match => match[1] as ErrorCode);
    for (const code of codes) examples[code] ??= exampleOf(code);
    const shown = Object.fromEntries(codes.map(code => [code, { $ref: `#/components/examples/${code}` }]));
    response.content = { [PROBLEM_TYPE]: { ...response.content?.[PROBLEM_TYPE], examples: shown } };
  }
}
