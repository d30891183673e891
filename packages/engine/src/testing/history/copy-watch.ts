// Watches what one backup does to its target, and what guests do to the disk meanwhile (INV-1, INV-3, INV-4 and
// INV-11): which cluster was copied, with what, and what came before what.
import type { GateRequest, GateWatch } from './gate-node.ts';
import { HISTORY_CLUSTER_BYTES } from './history.ts';
import type { Verdict } from './verdict.ts';

const ZEROES = Buffer.alloc(HISTORY_CLUSTER_BYTES);

export interface CopyWatchOptions {
  readonly verdict: Verdict;
  /** The disk as of the job's start. */
  readonly frozen: Buffer;
  /** Clusters to be copied. */
  readonly wanted: ReadonlySet<number>;
  readonly targetIsZero: boolean;
  /** Whether a guest may go ahead without its copy: the failure policy was applied, or the job is over. */
  readonly mayGoAhead: () => boolean;
}

export class CopyWatch implements GateWatch {
  readonly wanted: ReadonlySet<number>;
  readonly frozen: Buffer;
  /** Clusters that are on the target. */
  readonly copied = new Set<number>();
  readonly #options: CopyWatchOptions;
  /** Zeroes, for a target that reads as zeroes. */
  readonly #needNoWrite: ReadonlySet<number>;
  readonly #flying = new Set<number>();
  /** Clusters that a guest changed before they were copied. */
  readonly #overwritten = new Set<number>();
  #givenUp = false;
  /** The job has had its terminal event. */
  #over = false;
  /** What was written may not be there after a power cut. */
  flushFailed = false;

  constructor(options: CopyWatchOptions) {
    this.#options = options;
    this.wanted = options.wanted;
    this.frozen = options.frozen;
    const zero = [...options.wanted].filter(cluster => isZero(options.frozen, cluster));
    this.#needNoWrite = new Set(options.targetIsZero ? zero : []);
  }

  /** A guest changed what was not copied: the job must not succeed. */
  get givenUp(): boolean {
    return this.#givenUp;
  }

  /** Wanted clusters that never came to the target. */
  get uncopied(): Set<number> {
    return new Set([...this.wanted].filter(cluster => !this.copied.has(cluster)));
  }

  /**
   * Those of them that may count as copied all the same: zeroes, for a target that reads as zeroes, and what a
   * guest has changed, which may have become zeroes.
   */
  get uncertain(): Set<number> {
    const may = (cluster: number) => this.#needNoWrite.has(cluster) || this.#overwritten.has(cluster);
    return new Set([...this.uncopied].filter(may));
  }

  arrived(request: GateRequest): void {
    if (!isChange(request)) return;
    const { verdict } = this.#options;
    const where = `${request.operation} of ${request.length} bytes at ${request.offset} of the target`;
    if (this.#over) verdict.report(11, `${where} after the terminal event`);
    for (const cluster of clustersOf(request)) {
      if (!this.#overwritten.has(cluster) && !this.#isFrozen(request, cluster)) {
        verdict.report(1, `${where} is not what the disk held when the job began`);
      }
      if (this.#flying.has(cluster)) verdict.report(3, `${where} while cluster ${cluster} is being copied`);
      if (this.copied.has(cluster)) verdict.report(3, `${where}: cluster ${cluster} is there already`);
      if (!this.wanted.has(cluster)) verdict.report(1, `${where}: nobody wants cluster ${cluster}`);
      this.#flying.add(cluster);
    }
  }

  ended(request: GateRequest, failed: boolean): void {
    if (request.operation === 'flush') this.flushFailed ||= failed;
    if (!isChange(request)) return;
    for (const cluster of clustersOf(request)) {
      this.#flying.delete(cluster);
      if (!failed) this.copied.add(cluster);
    }
  }

  /** A guest's request reaches the disk. */
  guestArrived(request: { offset: number; length: number }): void {
    if (this.#over) return;
    const mayGoAhead = this.#options.mayGoAhead();
    for (const cluster of clustersOf(request)) {
      if (!this.wanted.has(cluster) || this.copied.has(cluster)) continue;
      if (mayGoAhead) this.#overwritten.add(cluster);
      if (this.#needNoWrite.has(cluster)) continue;
      this.#givenUp = true;
      if (mayGoAhead) continue;
      this.#options.verdict.report(4, `a guest overwrites cluster ${cluster}, which was not copied yet`);
    }
  }

  /** To be called with the job's terminal event; `held` is what the target has not done yet. */
  terminal(held: readonly GateRequest[]): void {
    this.#over = true;
    const late = held.find(isChange);
    if (late !== undefined) {
      this.#options.verdict.report(
        11,
        `${late.operation} at ${late.offset} is under way at the terminal event`,
      );
    }
  }

  /** Whether the part of the request that lies in the cluster is the disk as of the job's start. */
  #isFrozen({ offset, length, buffer }: GateRequest, cluster: number): boolean {
    const from = Math.max(offset, cluster * HISTORY_CLUSTER_BYTES);
    const to = Math.min(offset + length, (cluster + 1) * HISTORY_CLUSTER_BYTES);
    if (buffer === undefined) return isZero(this.frozen, cluster);
    return this.frozen.compare(buffer, from - offset, to - offset, from, to) === 0;
  }
}

export function clustersOf({ offset, length }: { offset: number; length: number }): number[] {
  const first = Math.floor(offset / HISTORY_CLUSTER_BYTES);
  const last = Math.floor((offset + length - 1) / HISTORY_CLUSTER_BYTES);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function isChange({ operation }: GateRequest): boolean {
  return operation === 'write' || operation === 'writeZeroes' || operation === 'discard';
}

function isZero(bytes: Buffer, cluster: number): boolean {
  const start = cluster * HISTORY_CLUSTER_BYTES;
  return bytes.compare(ZEROES, 0, ZEROES.length, start, start + ZEROES.length) === 0;
}
