// A frozen moment of a volume: what the disk held at one instant can be read from its snapshot node for as long as
// the moment is whole, while the guest goes on. What the guest overwrites is kept in a local scratch.
import type { Bitmap, EngineError, Fleece } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { ChangesAtMoment } from './moment-actions.ts';
import type { MomentScratch } from './moment-scratch.ts';

export type MomentKind = 'backup' | 'export' | 'audit';

export interface MomentSummary {
  readonly momentId: string;
  readonly volumeId: string;
  readonly kind: MomentKind;
  readonly sinceMs: number;
  readonly scratchBytes: number;
  /** Why it is lost; empty while it is whole. */
  readonly broken: string;
}

/** By `Moments` alone. */
export interface MomentParts {
  readonly momentId: string;
  readonly volumeId: string;
  readonly volumeName: string;
  readonly kind: MomentKind;
  readonly pointInTimeMs: number;
  readonly fleece: Fleece;
  readonly scratch: MomentScratch;
  readonly changes: ChangesAtMoment;
  /** What can be read; undefined: all of the disk. */
  readonly bits: Bitmap | undefined;
}

export class Moment {
  readonly #parts: MomentParts;
  readonly #listeners = new Set<() => void>();
  #users: (() => Promise<void>)[] = [];
  #end: Promise<void> | undefined;

  constructor(parts: MomentParts) {
    this.#parts = parts;
  }

  get momentId(): string {
    return this.#parts.momentId;
  }
  get volumeId(): string {
    return this.#parts.volumeId;
  }
  get kind(): MomentKind {
    return this.#parts.kind;
  }
  get pointInTimeMs(): number {
    return this.#parts.pointInTimeMs;
  }

  /** Name of the block node that shows the moment. */
  get snapshotNode(): string {
    return this.#parts.fleece.snapshotNode.name;
  }

  /** What of the disk is kept and can be read; undefined: all of it. */
  get bits(): Bitmap | undefined {
    return this.#parts.bits;
  }

  /** What had changed by then since each checkpoint that was trusted; later writes do not change it. */
  get changes(): ReadonlyMap<string, Bitmap> {
    return this.#parts.changes.all;
  }

  /** Why it is lost; undefined while it is whole. */
  get broken(): EngineError | undefined {
    return this.#parts.fleece.broken;
  }

  /** What its scratch may still take of the disk. */
  get scratchLeftBytes(): number {
    return this.#parts.scratch.leftBytes;
  }

  /** Throws `moment-lost`. */
  assertWhole(): void {
    const { broken } = this;
    if (broken !== undefined) throw momentLost(this.#parts.volumeName, broken);
  }

  /** Told once, when the moment is lost. Returns the function that ends the subscription. */
  onBroken(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** By `Moments` alone. */
  tellBroken(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** `end` is called, and waited for, before the moment goes: nobody may use its block node afterwards. */
  usedUntil(end: () => Promise<void>): void {
    this.#users.push(end);
  }

  async summary(): Promise<MomentSummary> {
    const { momentId, volumeId, kind, pointInTimeMs, scratch } = this.#parts;
    return {
      momentId,
      volumeId,
      kind,
      sinceMs: pointInTimeMs,
      scratchBytes: await scratch.bytes(),
      broken: this.broken?.message ?? '',
    };
  }

  /** Takes filter and scratch away; the guest goes on undisturbed. Good to repeat. */
  release(): Promise<void> {
    this.#end ??= this.#release().catch((error: unknown) => {
      this.#end = undefined;
      throw error;
    });
    return this.#end;
  }

  /** As `release`; where it fails, whoever asks for that the next time is told. */
  releaseSoon(): void {
    void this.release().catch(() => undefined);
  }

  async #release(): Promise<void> {
    for (const end of this.#users.splice(0)) await end();
    await this.#parts.fleece.remove();
    await this.#parts.scratch.remove();
  }
}

export function momentLost(volumeName: string, cause: EngineError): TidemarkError {
  return new TidemarkError(
    'moment-lost',
    `The frozen moment of volume '${volumeName}' is lost: ${cause.message}. The guest lost nothing. ` +
      'Start again from a new point in time, if need be with a larger scratch.',
    cause,
  );
}
