// All frozen moments of this storage node. None of them survives the process: scratch files that are found at its
// start are what an earlier life left.
import {
  type BlockGraph,
  type Clock,
  type EngineError,
  type OnCbwError,
  runTransaction,
  startFleece,
  type TransactionAction,
  WaitHistogram,
} from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import type { StateStore } from '../host/state-store.ts';
import { CBW_TIMEOUT_MS } from '../limits.ts';
import type { Volume } from '../volume/volume.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';
import { Moment, type MomentKind, type MomentSummary } from './moment.ts';
import { ChangesAtMoment, chooseContents, type DiskRange } from './moment-actions.ts';
import { MomentScratch } from './moment-scratch.ts';

export interface FreezeRequest {
  /** Unlike that of any other moment. */
  readonly momentId: string;
  readonly kind: MomentKind;
  /** A checkpoint of the same instant. */
  readonly checkpoint?: CheckpointRecord | undefined;
  /** Only the union of these bitmaps of the volume is kept, and can be read; undefined: all of the disk. */
  readonly baseNames?: readonly string[] | undefined;
  /** Kept besides. */
  readonly also?: readonly DiskRange[] | undefined;
  /** Checkpoints since which the changes are kept; default: all that are trusted, and none for a backup. */
  readonly changesSince?: readonly string[] | undefined;
  /** 0 or undefined: as this storage node is set. */
  readonly scratchLimitBytes?: number | undefined;
  /** Default break-snapshot: the guest goes on, whatever becomes of the moment. */
  readonly onCbwError?: OnCbwError | undefined;
  /** 0 or undefined: CBW_TIMEOUT_MS. */
  readonly cbwTimeoutMs?: number | undefined;
}

/** A moment whose scratch is there. */
export interface StagedMoment {
  /** Of the transaction of its instant. */
  readonly actions: readonly TransactionAction[];
  /** After the transaction, in the same turn as it ends: the moment is one of this storage node's. */
  enter(pointInTimeMs: number): Moment;
  /** After the transaction, before `enter`; then `withdraw`. */
  undo(): Promise<void>;
  /** Instead of the transaction, or where that failed: nothing is left of it. */
  withdraw(): Promise<void>;
}

/** Told of moments that were lost, or found to be left over. */
export type MomentReport = (problem: { momentId: string; message: string }) => void;

export class Moments {
  /** How long guests waited for what they overwrite to be kept. */
  readonly waits = new WaitHistogram();
  readonly #graph: BlockGraph;
  readonly #store: StateStore;
  readonly #clock: Clock;
  readonly #scratchLimitBytes: number;
  readonly #report: MomentReport;
  readonly #moments = new Map<string, Moment>();
  /** By their ids; what their scratches may take of the disk is promised. */
  readonly #staged = new Map<string, { readonly scratchLeftBytes: number }>();

  constructor(options: {
    graph: BlockGraph;
    store: StateStore;
    clock: Clock;
    /** Of one moment, where the request does not say; 0: half of what the file system has free. */
    scratchLimitBytes: number;
    report: MomentReport;
  }) {
    this.#graph = options.graph;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#scratchLimitBytes = options.scratchLimitBytes;
    this.#report = options.report;
  }

  get count(): number {
    return this.#moments.size;
  }

  /** Removes what an earlier life of the process left. */
  async load(): Promise<void> {
    for (const { momentId, bytes } of await MomentScratch.removeLeftovers(this.#store)) {
      const message = `the scratch of a moment that ended with the process was removed (${bytes} bytes)`;
      this.#report({ momentId, message });
    }
  }

  async close(): Promise<void> {
    for (const moment of this.#moments.values()) await moment.release();
    this.#moments.clear();
  }

  /**
   * Freezes a moment, which lies between call and end, and makes its checkpoint at the same instant. To be called in
   * the volume's turn. Rejects with nothing changed.
   */
  async freeze(volume: Volume, request: FreezeRequest): Promise<Moment> {
    const { actions, undo, enter, withdraw } = await this.stage(volume, request);
    try {
      const { checkpoint } = request;
      const pointInTimeMs = checkpoint?.createdAtMs ?? this.#clock.wallMs();
      if (checkpoint) await volume.addCheckpoint(checkpoint, { actions, undo });
      else await runTransaction(this.#graph, actions);
      return enter(pointInTimeMs);
    } catch (error) {
      await withdraw();
      throw error;
    }
  }

  /** What takes time of freezing a moment. To be called in the volume's turn. Rejects with nothing changed. */
  async stage(volume: Volume, request: FreezeRequest): Promise<StagedMoment> {
    const momentId = checkId(request.momentId, 'moment');
    if (this.#moments.has(momentId) || this.#staged.has(momentId)) throw inUse(momentId);
    // Bitmaps, which an audit looks at, are right at any instant.
    if (request.kind !== 'audit') volume.use.assertNotOverwritten();
    const { sizeBytes } = volume.record;
    const limitBytes = request.scratchLimitBytes || this.#scratchLimitBytes;
    const host = { graph: this.#graph, store: this.#store };
    const promised = [...this.#staged.values(), ...this.#moments.values()];
    const promisedBytes = promised.reduce((sum, one) => sum + one.scratchLeftBytes, 0);
    // In its place before the file is: the id is taken from here on.
    const place = { scratchLeftBytes: 0 };
    this.#staged.set(momentId, place);
    try {
      const scratch = await MomentScratch.create(host, { momentId, sizeBytes, limitBytes, promisedBytes });
      place.scratchLeftBytes = scratch.leftBytes;
      return this.#plan(volume, request, scratch);
    } catch (error) {
      this.#staged.delete(momentId);
      throw error;
    }
  }

  find(momentId: string): Moment | undefined {
    return this.#moments.get(momentId);
  }

  /** Good to repeat. */
  async release(momentId: string): Promise<void> {
    await this.#moments.get(momentId)?.release();
    this.#moments.delete(momentId);
  }

  list(): Promise<MomentSummary[]> {
    return Promise.all([...this.#moments.values()].map(moment => moment.summary()));
  }

  #plan(volume: Volume, request: FreezeRequest, scratch: MomentScratch): StagedMoment {
    const { node } = volume;
    const { momentId, kind, baseNames, also = [] } = request;
    const held: { moment?: Moment } = {};
    const trusted = volume.chain.trusted();
    const all = kind === 'backup' ? [] : trusted.map(({ checkpointId }) => checkpointId);
    const changes = new ChangesAtMoment(node, trusted, request.changesSince ?? all);
    const contents = `contents-${momentId}`;
    const fleecing = startFleece({
      clock: this.#clock,
      source: node.name,
      target: scratch.name,
      snapshotNode: `moment-${momentId}`,
      bitmap: baseNames && contents,
      onCbwError: request.onCbwError ?? 'break-snapshot',
      cbwTimeoutMs: request.cbwTimeoutMs || CBW_TIMEOUT_MS,
      waits: this.waits,
      onBroken: reason => this.#broke(momentId, reason, held.moment),
    });
    const actions: TransactionAction[] = [changes.action()];
    if (baseNames) actions.push(chooseContents({ node, name: contents, union: baseNames, also }));
    actions.push(fleecing);
    const enter = (pointInTimeMs: number) => {
      const fleece = fleecing.fleece!;
      const bits = baseNames && fleece.snapshotNode.bitmaps.get(contents).bits;
      const { volumeId, name: volumeName } = volume.record;
      const parts = { momentId, volumeId, volumeName, kind, pointInTimeMs, fleece, scratch, changes, bits };
      held.moment = new Moment(parts);
      this.#staged.delete(momentId);
      this.#moments.set(momentId, held.moment);
      return held.moment;
    };
    const withdraw = async () => {
      await scratch.remove();
      this.#staged.delete(momentId);
    };
    return { actions, enter, withdraw, undo: () => fleecing.fleece!.remove() };
  }

  #broke(momentId: string, reason: EngineError, moment: Moment | undefined): void {
    this.#report({ momentId, message: `the moment is lost: ${reason.message}` });
    moment?.tellBroken();
  }
}

function inUse(momentId: string): TidemarkError {
  return new TidemarkError(
    'invalid-request',
    `There is a moment ${momentId} on this storage node already. Release it, or take another id.`,
  );
}
