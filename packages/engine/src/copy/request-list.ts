// The ranges being copied right now. Whoever wants one that overlaps waits for its end and looks again.

export class CopyRequest {
  readonly offset: number;
  readonly length: number;
  /** Wakes everybody who waits for this request to end. */
  readonly waiters: (() => void)[] = [];

  constructor(offset: number, length: number) {
    this.offset = offset;
    this.length = length;
  }

  get end(): number {
    return this.offset + this.length;
  }
}

export class RequestList {
  readonly #requests = new Set<CopyRequest>();
  #idle: (() => void)[] = [];
  #bytes = 0;

  /** Sum of the lengths. */
  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#requests.size;
  }

  start(offset: number, length: number): CopyRequest {
    const request = new CopyRequest(offset, length);
    this.#requests.add(request);
    this.#bytes += length;
    return request;
  }

  /** A request that overlaps [offset, end), or undefined. */
  overlapping(offset: number, end: number): CopyRequest | undefined {
    for (const request of this.#requests) {
      if (request.offset < end && offset < request.end) return request;
    }
    return undefined;
  }

  /** Where the first request that overlaps [offset, end) begins and ends, or undefined. */
  firstIn(offset: number, end: number): CopyRequest | undefined {
    let first: CopyRequest | undefined;
    for (const request of this.#requests) {
      if (request.offset >= end || offset >= request.end) continue;
      if (first === undefined || request.offset < first.offset) first = request;
    }
    return first;
  }

  finish(request: CopyRequest): void {
    this.#requests.delete(request);
    this.#bytes -= request.length;
    for (const wake of request.waiters.splice(0)) wake();
    for (const wake of this.#idle.splice(0)) wake();
  }

  /** Resolves when `request` has ended. */
  ended(request: CopyRequest): Promise<void> {
    return new Promise(resolve => request.waiters.push(resolve));
  }

  /** Resolves when some request has ended; at once when there is none. */
  anyFinished(): Promise<void> {
    if (this.#requests.size === 0) return Promise.resolve();
    return new Promise(resolve => this.#idle.push(resolve));
  }
}
