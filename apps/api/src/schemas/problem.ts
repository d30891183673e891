// Problem documents (RFC 9457): the one form of every answer that is not a success.
import { ERROR_CODES, type ErrorCode } from '@tidemark/proto';
import { z } from 'zod';
import { idField } from './common.ts';

export const PROBLEM_TYPE = 'application/problem+json';

const codes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]];

export const problemSchema = z
  .object({
    type: z.string().meta({ description: 'A URN that ends with the code.' }),
    title: z.string().meta({ description: 'The same for every problem of this code.' }),
    status: z.int().min(400).max(599),
    detail: z.string().meta({ description: 'Names the object, its state and what to do next.' }),
    instance: z.string().meta({ description: 'The path that was asked for.' }),
    code: z.enum(codes).meta({ description: 'Stable; made for programs.' }),
    requestId: z.string().meta({ description: "Finds the request in the service's log." }),
    runId: idField.optional().meta({ description: 'The run that failed or is still going on.' }),
    missing: z
      .array(z.enum(['catalog', 'queue']))
      .optional()
      .meta({ description: 'What does not answer; only from `/readyz`.' }),
    errors: z
      .array(
        z.object({
          in: z.enum(['body', 'query', 'path', 'headers']),
          field: z.string().meta({ description: 'Path of the field, for instance `target.volume.name`.' }),
          message: z.string().meta({ description: 'What is wrong with it and what to send.' }),
        }),
      )
      .optional()
      .meta({ description: 'Each faulty field, when the request itself is at fault.' }),
  })
  .meta({
    id: 'Problem',
    description: 'A problem document after RFC 9457.',
    examples: [
      {
        type: 'urn:tidemark:problem:volume-not-found',
        title: 'The volume is not known',
        status: 404,
        detail: "There is no volume 'web-01'. List the volumes with GET /v1/volumes.",
        instance: '/v1/volumes/web-01',
        code: 'volume-not-found',
        requestId: 'req-1f',
      },
    ],
  });

export type Problem = z.output<typeof problemSchema>;

/** Codes that any route can answer with, whatever it does. */
const EVERYWHERE = ['catalog-unavailable', 'internal-error'] as const satisfies readonly ErrorCode[];

/** Where callers may wait in vain, there may be too many of them. */
function withWaits(codes: readonly ErrorCode[]): readonly ErrorCode[] {
  return codes.includes('wait-timed-out') ? [...codes, 'waits-limit'] : codes;
}

/** The error answers of a route: one entry for each HTTP status, its description naming the codes. */
export function problems(...own: ErrorCode[]) {
  return problemsOfProbe('unauthenticated', 'forbidden', ...own);
}

/** As `problems`, of a route that needs no token. */
export function problemsOfProbe(...own: ErrorCode[]) {
  const byStatus = Object.groupBy(new Set([...withWaits(own), ...EVERYWHERE]), code =>
    String(ERROR_CODES[code].http),
  );
  return Object.fromEntries(
    Object.entries(byStatus).map(([status, list = []]) => [
      status,
      {
        description: list.map(code => `\`${code}\`: ${ERROR_CODES[code].title}`).join('; '),
        content: { [PROBLEM_TYPE]: { schema: problemSchema } },
      },
    ]),
  );
}
