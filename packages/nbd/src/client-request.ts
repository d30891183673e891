// One request of a client between its sending and its last reply.
import type { StatusExtent } from './export.ts';

/** Status by context id. */
export type StatusReply = ReadonlyMap<number, readonly StatusExtent[]>;

export class ClientRequest {
  readonly command: number;
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Where READ puts its data, or what WRITE sends. */
  readonly buffer: Buffer | undefined;
  readonly resolve: (status: StatusReply | undefined) => void;
  readonly reject: (error: Error) => void;
  /** Status of BLOCK_STATUS chunks that have come. */
  status: Map<number, readonly StatusExtent[]> | undefined;
  /** First error the server reported. */
  error: Error | undefined;
  /** Bytes of READ that have come; pieces beyond the first are remembered to see overlaps. */
  receivedBytes = 0;
  pieces: { readonly start: number; readonly end: number }[] | undefined;
  chunks = 0;

  constructor(
    init: Pick<ClientRequest, 'command' | 'flags' | 'offset' | 'length' | 'buffer'>,
    resolve: (status: StatusReply | undefined) => void,
    reject: (error: Error) => void,
  ) {
    this.command = init.command;
    this.flags = init.flags;
    this.offset = init.offset;
    this.length = init.length;
    this.buffer = init.buffer;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** Accounts for `length` bytes of READ at `start` (from the request's offset); false if they cannot be. */
  accept(start: number, length: number): boolean {
    if (start < 0 || length <= 0 || start + length > this.length) return false;
    this.receivedBytes += length;
    if (this.receivedBytes > this.length) return false;
    if (length === this.length) return true;
    this.pieces ??= [];
    this.pieces.push({ start, end: start + length });
    return true;
  }

  /** Every byte of READ came exactly once. */
  get complete(): boolean {
    if (this.receivedBytes !== this.length) return false;
    if (this.pieces === undefined) return true;
    const sorted = this.pieces.sort((a, b) => a.start - b.start);
    return sorted.every((piece, index) => index === 0 || piece.start === sorted[index - 1]!.end);
  }
}
