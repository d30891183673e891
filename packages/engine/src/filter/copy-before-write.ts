// Injected above a disk for the life of a backup: before each guest write it copies what is about to be
// overwritten to the target, so that the target becomes the disk as of the moment the filter appeared.
//
// Reads pass; where asked to they feed the copy. A write, write-zeroes or discard of [o, o + n) first has every
// cluster it touches copied, each once (scenario group 10); a failed or late copy is settled by `onCbwError`,
// named for who loses. It then waits for readers of the frozen moment that still read the source there.
import { Bitmap } from '../bitmap/bitmap.ts';
import type { Clock } from '../clock.ts';
import { type BlockCopy, brokenSnapshot, type CopyFailure } from '../copy/block-copy.ts';
import { EngineError } from '../errors.ts';
import type { Extent } from '../extent.ts';
import type { BlockNode, WriteZeroesOptions } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { FrozenMoment } from './frozen-moment.ts';
import type { WaitHistogram } from './wait-histogram.ts';

/** QEMU's default is break-guest-write; callers of ours have to choose. */
export const ON_CBW_ERROR = ['break-guest-write', 'break-snapshot'] as const;
export type OnCbwError = (typeof ON_CBW_ERROR)[number];

export interface CopyBeforeWriteOptions {
  source: BlockNode;
  target: BlockNode;
  copy: BlockCopy;
  /** What readers of the frozen moment may see, in the copy's clusters; default: the whole disk. */
  access?: Bitmap | undefined;
  /** What guests read is copied on the way, where that costs them nothing. Default false. */
  feedFromReads?: boolean | undefined;
  onCbwError: OnCbwError;
  /** How long a guest request waits for its copy; 0 for ever. Being late is an error under the policy. */
  cbwTimeoutMs: number;
  clock: Clock;
  /** Where is noted how long guest requests waited for their copies. */
  waits?: WaitHistogram | undefined;
}

export class CopyBeforeWrite implements BlockNode {
  readonly driver = 'copy-before-write';
  readonly copy: BlockCopy;
  readonly snapshot: FrozenMoment;
  readonly #source: BlockNode;
  readonly #feedFromReads: boolean;
  readonly #onCbwError: OnCbwError;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #waits: WaitHistogram | undefined;
  #broken: EngineError | undefined;
  /** Told once, when the frozen moment is lost. */
  onBroken: () => void = () => {};

  constructor(options: CopyBeforeWriteOptions) {
    this.copy = options.copy;
    this.#source = options.source;
    this.#feedFromReads = options.feedFromReads ?? false;
    this.#onCbwError = options.onCbwError;
    this.#timeoutMs = options.cbwTimeoutMs;
    this.#clock = options.clock;
    this.#waits = options.waits;
    this.snapshot = new FrozenMoment({
      source: options.source,
      target: options.target,
      copy: options.copy,
      access: options.access ?? wholeDisk(options.copy),
      broken: () => this.#broken,
    });
  }

  /** Why the frozen moment is lost; undefined while it is whole. */
  get broken(): EngineError | undefined {
    return this.#broken;
  }

  get sizeBytes(): number {
    return this.#source.sizeBytes;
  }
  get readOnly(): boolean {
    return this.#source.readOnly;
  }
  get requestAlignmentBytes(): number {
    return this.#source.requestAlignmentBytes;
  }
  get clusterSizeBytes(): number | undefined {
    return this.#source.clusterSizeBytes;
  }

  read(offset: number, buffer: Buffer): Pending {
    const pending = this.#source.read(offset, buffer);
    if (!this.#feedFromReads) return pending;
    if (pending !== undefined) return pending.then(() => this.#feed(offset, buffer));
    this.#feed(offset, buffer);
    return undefined;
  }

  write(offset: number, buffer: Buffer): Pending {
    if (this.#mayPass(offset, buffer.length)) return this.#source.write(offset, buffer);
    return this.#copyThen(offset, buffer.length, () => this.#source.write(offset, buffer));
  }

  writeZeroes(offset: number, length: number, options: WriteZeroesOptions): Pending {
    if (this.#mayPass(offset, length)) return this.#source.writeZeroes(offset, length, options);
    return this.#copyThen(offset, length, () => this.#source.writeZeroes(offset, length, options));
  }

  discard(offset: number, length: number): Pending {
    if (this.#mayPass(offset, length)) return this.#source.discard(offset, length);
    return this.#copyThen(offset, length, () => this.#source.discard(offset, length));
  }

  flush(): Pending {
    return this.#source.flush();
  }

  extents(offset: number, length: number): Extent[] | Promise<Extent[]> {
    return this.#source.extents(offset, length);
  }

  /** Copies whose guests did not wait for them end before the target may go. */
  async close(): Promise<void> {
    await this.copy.stop();
  }

  #feed(offset: number, buffer: Buffer): void {
    if (this.#broken === undefined) this.copy.feed(offset, buffer);
  }

  #mayPass(offset: number, length: number): boolean {
    if (this.#broken !== undefined) return true;
    return this.copy.isDone(offset, length) && this.snapshot.isFree(offset, length);
  }

  async #copyThen(offset: number, length: number, request: () => Pending): Promise<void> {
    const sinceMs = this.#clock.monotonicMs();
    const failure = await this.#copyInTime(offset, length);
    // A copy that was stopped is nobody's any more: its end is no reason to fail a guest.
    if (failure !== undefined && this.#broken === undefined && !this.copy.stopped) {
      if (this.#onCbwError === 'break-guest-write') {
        this.#waits?.note((this.#clock.monotonicMs() - sinceMs) / 1000);
        throw failure.error;
      }
      this.#broken = brokenSnapshot(failure);
      this.onBroken();
    }
    if (this.#broken === undefined) await this.snapshot.untilFree(offset, length);
    this.#waits?.note((this.#clock.monotonicMs() - sinceMs) / 1000);
    await request();
  }

  /** The copy, or a failure when the time is over; the late copy goes on, and its end is awaited by `stop`. */
  async #copyInTime(offset: number, length: number): Promise<CopyFailure | undefined> {
    const copied = this.copy.copyRange(offset, length);
    if (this.#timeoutMs === 0) return copied;
    const timer = new AbortController();
    const late = this.#clock.sleep(this.#timeoutMs, timer.signal).then((): CopyFailure => {
      const text = `Copy before write took longer than ${this.#timeoutMs} ms`;
      const error = new EngineError('io', text, {
        op: 'copy-before-write',
        offset,
        length,
        errno: 'ETIMEDOUT',
      });
      return { side: 'target', error, offset, length };
    });
    try {
      return await Promise.race([copied, late]);
    } finally {
      timer.abort();
    }
  }
}

function wholeDisk({ copyBitmap }: BlockCopy): Bitmap {
  const access = new Bitmap(copyBitmap.sizeBytes, copyBitmap.granularityBytes);
  access.setAll();
  return access;
}
