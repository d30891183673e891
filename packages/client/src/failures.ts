// What goes wrong between a client and the REST API: it says no, or nobody answers; and runs that do not succeed.
import type { Schema } from './types.ts';

/** The body of every refusal: a problem document (RFC 9457) with a stable code. */
export type ProblemDocument = Pick<Schema<'Problem'>, 'title' | 'detail' | 'code'>;

/** What the service said no with. */
export class ProblemFailure extends Error {
  readonly title: string;
  /** One of docs/ERRORS.md. */
  readonly code: string;
  /** HTTP status. */
  readonly status: number;
  readonly document: unknown;

  constructor(document: ProblemDocument, status: number) {
    super(document.detail);
    this.name = 'ProblemFailure';
    this.title = document.title;
    this.code = document.code;
    this.status = status;
    this.document = document;
  }
}

/** Nobody answered, or somebody who does not speak this API. */
export class UnreachableFailure extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'UnreachableFailure';
  }
}

/** The request was sent, and its answer was lost: whether it was carried out is not known. */
export class LostAnswerFailure extends UnreachableFailure {}

/** A run that was accepted came to no good end, or to one that is none to be glad of. */
export class RunFailure extends Error {
  readonly title: string;
  /** One of docs/ERRORS.md. */
  readonly code: string;

  constructor({ title, detail, code }: { title: string; detail: string; code: string }) {
    super(detail);
    this.name = 'RunFailure';
    this.title = title;
    this.code = code;
  }
}

export function isProblem(body: unknown): body is ProblemDocument {
  return typeof body === 'object' && body !== null && 'code' in body && 'title' in body && 'detail' in body;
}

/** `fetch` keeps the reason of a failed connection in the cause. */
export function reasonOf(error: unknown): string {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause;
  return cause?.code ?? cause?.message ?? (error instanceof Error ? error.message : String(error));
}

/** Of connections that broke after they had been there. */
const BROKEN = ['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'];

/** Whether a request whose `fetch` was rejected may have reached the service. */
export const mayHaveArrived = (error: unknown): boolean => BROKEN.includes(reasonOf(error));

/** What TLS says of a certificate that is not to be trusted, or of no TLS at all, and what that means. */
const DISTRUST: Record<string, string> = {
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is of a CA that is not trusted here',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is of no CA, but signed by itself',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is of a CA that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate is of a CA that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is of a CA that is not trusted here',
  CERT_SIGNATURE_FAILURE: 'its certificate is of a CA that is not trusted here',
  CERT_HAS_EXPIRED: 'its certificate, or the CA of it, has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet, by the clock of this machine',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host than its address names',
  INVALID_PURPOSE: 'its certificate is not for a server',
};

/** Undefined: the connection failed for another reason. */
export const distrustOf = (error: unknown): string | undefined => DISTRUST[reasonOf(error)];

const NO_TLS = ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG'];

/** Whether the other side was asked over TLS, and speaks none. */
export const speaksNoTls = (error: unknown): boolean => NO_TLS.includes(reasonOf(error));
