// What goes wrong between a client and the REST API: it says no, or nobody answers.

/** The body of every refusal: a problem document (RFC 9457) with a stable code. */
export interface ProblemDocument {
  readonly title: string;
  readonly detail: string;
  /** One of docs/ERRORS.md. */
  readonly code: string;
}

/** What the service said no with. */
export class ProblemFailure extends Error {
  readonly title: string;
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

export function isProblem(body: unknown): body is ProblemDocument {
  return typeof body === 'object' && body !== null && 'code' in body && 'title' in body && 'detail' in body;
}

/** `fetch` keeps the reason of a failed connection in the cause. */
export function reasonOf(error: unknown): string {
  const cause = (error as { cause?: { code?: string; message?: string } }).cause;
  return cause?.code ?? cause?.message ?? (error instanceof Error ? error.message : String(error));
}
