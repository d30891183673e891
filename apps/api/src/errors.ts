// Everything that can go wrong with a request, turned into one problem document: errors of the
// catalogue keep their code and text, faulty requests name their fields, the rest says nothing of its inside.
import { CatalogError } from '@tidemark/catalog';
import { ERROR_CODES, type ErrorCode, isErrorCode, TidemarkError } from '@tidemark/proto';
import type { FastifyError } from 'fastify';
import { BODY_BYTES_MAX } from './limits.ts';
import type { Problem } from './schemas/problem.ts';
import { RequestInvalid } from './validation.ts';

/** An error of the catalogue with further members for its problem document. */
export class ProblemError extends TidemarkError {
  readonly extra: Pick<Problem, 'runId' | 'missing'>;

  constructor(code: ErrorCode, message: string, extra: Pick<Problem, 'runId' | 'missing'>, cause?: unknown) {
    super(code, message, cause);
    this.name = 'ProblemError';
    this.extra = extra;
  }
}

export interface ProblemPlace {
  readonly instance: string;
  readonly requestId: string;
}

function problemOf(code: ErrorCode, detail: string, place: ProblemPlace): Problem {
  const { title, http } = ERROR_CODES[code];
  return { type: `urn:tidemark:problem:${code}`, title, status: http, detail, code, ...place };
}

/** Fastify's own refusals of a request, by its stable codes; all others are its or our mistakes. */
const FRAMEWORK_REFUSALS: Readonly<Record<string, { code: ErrorCode; detail: string }>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: 'request-too-large',
    detail: `The body is larger than ${BODY_BYTES_MAX} bytes. Send less.`,
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: 'unsupported-media-type',
    detail: 'The body is not declared as JSON. Send it with content-type: application/json.',
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    code: 'invalid-request',
    detail: 'The body is empty although content-type says JSON. Send a JSON object, or no content-type.',
  },
  FST_ERR_CTP_INVALID_JSON_BODY: {
    code: 'invalid-request',
    detail: 'The body is not valid JSON. Send one JSON object.',
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: 'invalid-request',
    detail: 'The body is not as long as content-length says. Send both alike.',
  },
  FST_ERR_MAX_PARAM_LENGTH: {
    code: 'invalid-request',
    detail: 'A part of the path is too long. Names have at most 64 characters, ids have 36.',
  },
  FST_ERR_BAD_URL: {
    code: 'invalid-request',
    detail: 'The path is not a valid URL. Percent-encode what is not a letter or a digit.',
  },
};

function codeOf(error: CatalogError): ErrorCode | undefined {
  if (error.kind === 'invalid-cursor') return 'invalid-request';
  return isErrorCode(error.code) ? error.code : undefined;
}

/** Total over everything that a handler, a hook or the framework can throw. */
export function toProblem(error: unknown, place: ProblemPlace): Problem {
  if (error instanceof RequestInvalid) {
    return { ...problemOf(error.code, error.message, place), errors: error.faults };
  }
  if (error instanceof ProblemError)
    return { ...problemOf(error.code, error.message, place), ...error.extra };
  if (error instanceof TidemarkError && error.code !== 'internal-error') {
    return problemOf(error.code, error.message, place);
  }
  if (error instanceof CatalogError) {
    const code = codeOf(error);
    if (code) return problemOf(code, error.message, place);
  }
  const failure = error as Partial<FastifyError> | null;
  const refusal = FRAMEWORK_REFUSALS[failure?.code ?? ''];
  if (refusal) return problemOf(refusal.code, refusal.detail, place);
  if (error instanceof SyntaxError && failure?.statusCode === 400) {
    return problemOf('invalid-request', 'The body is not valid JSON. Send one JSON object.', place);
  }
  if (failure?.code?.startsWith('FST_') && failure.statusCode !== undefined && failure.statusCode < 500) {
    const detail = `The request cannot be read: ${failure.message}. Compare it with /docs.`;
    return problemOf('invalid-request', detail, place);
  }
  return problemOf(
    'internal-error',
    `Something failed inside. Try again; if it stays, look for request ${place.requestId} in ` +
      'the log of the api service.',
    place,
  );
}
