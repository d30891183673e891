// The checkpoints of one open volume: their bitmaps in memory, and what of them is on the disk.
//
// The rule (ADR 0037). At every moment, for each checkpoint k of the record on the disk: what may differ on the disk
// from k's contents is dirty in a stored bitmap from k on, or lies in a region of the write-intent log. It holds
// because
//   - a change reaches the images after its region is in the log (WriteIntents), or relies on stored bits;
//   - a region leaves the log after bits copied since its last change are stored;
//   - a checkpoint enters the record after the images were flushed, with an empty bitmap stored, the bits of the one
//     before complete, and no change since its moment relying on stored bits;
//   - a checkpoint leaves the record after its bits are stored in the one before.
// Regions of the log belong to whichever checkpoint records, so that no step changes record and log at once.
import {
  Bitmap,
  type DirtyBitmap,
  runTransaction,
  systemClock,
  type TransactionAction,
} from '@tidemark/engine';
import { Turns } from '../host/turns.ts';
import {
  INTENT_LOOK_INTERVAL_MS,
  INTENT_STORE_BYTES_PER_SECOND,
  INTENT_STORE_INTERVAL_MS,
} from '../limits.ts';
import { CheckpointChain, type CheckpointTexts } from './checkpoint-chain.ts';
import type { ReadLog } from './intent-slots.ts';
import { type IntentPlace, IntentTracking, intentRegionBytes } from './intent-tracking.ts';
import type { CheckpointCompanions, StagedCheckpoint } from './staged-checkpoint.ts';
import { bitsOf, StoredBitmaps } from './stored-bitmaps.ts';
import type { VolumeHost } from './volume.ts';
import type { VolumeLayers } from './volume-layers.ts';
import { type CheckpointRecord, VolumeLayout, type VolumeRecord } from './volume-record.ts';

export interface VolumeCheckpointsOptions {
  readonly host: VolumeHost;
  readonly layers: VolumeLayers;
  readonly record: VolumeRecord;
  /** Changes the volume's record, durably; what fails leaves it as it was. */
  readonly change: (change: (record: VolumeRecord) => VolumeRecord) => Promise<void>;
}

const TURN = 'checkpoints';

export class VolumeCheckpoints {
  readonly chain: CheckpointChain;
  readonly #options: VolumeCheckpointsOptions;
  readonly #files: StoredBitmaps;
  readonly #place: IntentPlace;
  readonly #turns = new Turns();
  readonly #closing = new AbortController();
  /** Undefined while no bitmap records that could be trusted. */
  #tracking: IntentTracking | undefined;
  /** What is stored of the recording bitmap, as far as changes rely on it. */
  #stored: Bitmap | undefined;
  /** Checkpoints that may be the recording one in the record on the disk. */
  #mayRecord: string[] = [];
  /** The record on the disk may differ from the chain: nothing leaves the log before they agree. */
  #unsettled = false;
  /** The log could not be written: changes may have gone past it, so what it would vouch for has no file. */
  #logLost = false;
  #rounds: Promise<void> | undefined;

  constructor(options: VolumeCheckpointsOptions) {
    const { host, layers, record } = options;
    const { checkpoints: records, name: volumeName } = record;
    this.#options = options;
    this.#files = new StoredBitmaps(host.store, record.volumeId);
    this.#place = {
      store: host.store,
      name: new VolumeLayout(record.volumeId).intents,
      distrust: () => this.#loseLog(),
    };
    this.chain = new CheckpointChain({ node: layers.top, volumeName, records });
  }

  /** To be called before the first change of the images; afterwards the log is at work. */
  async load(): Promise<void> {
    const { layers, record } = this.#options;
    const { bitmaps, grownBytes, log } = await this.#files.load(record, layers.top.sizeBytes);
    for (const bitmap of bitmaps) layers.top.bitmaps.insert(bitmap);
    for (const [checkpointId, bytes] of grownBytes) this.chain.noteGrown(checkpointId, bytes);
    this.#mayRecord = record.checkpoints.slice(-1).map(({ checkpointId }) => checkpointId);
    const recording = this.#recording();
    if (recording !== undefined) await this.#resume(recording, log);
    if (record.version === 1 && bitmaps.length > 0) {
      await this.#options.change(asTracked);
      await this.#files.removeCleanMark();
    }
    await this.#files.sweep(record.checkpoints);
  }

  /** A log that cannot be written keeps no guest from its disk: the bitmap goes without a file until it can be. */
  async #resume(recording: DirtyBitmap, log: ReadLog | undefined): Promise<void> {
    this.#rounds = this.#keepStoring();
    try {
      const tracking =
        log === undefined
          ? await IntentTracking.begin(this.#place, this.#scope())
          : await IntentTracking.resume(this.#place, log);
      this.#stored = recording.bits.clone();
      tracking.intents.setStored(this.#stored);
      this.#startTracking(tracking);
    } catch {
      await this.#loseLog();
    }
  }

  /** As Volume.addCheckpoint. */
  add(record: CheckpointRecord, more: CheckpointCompanions): Promise<void> {
    return this.#turns.take(TURN, async () => {
      const { actions, withdraw } = await this.#stage(record);
      try {
        await this.#run([...actions(record), ...more.actions]);
      } catch (error) {
        await withdraw();
        throw error;
      }
      this.#enter(record);
      await this.#publish(record, more.undo);
    });
  }

  /** As Volume.stageCheckpoint. */
  stage(record: CheckpointRecord): Promise<StagedCheckpoint> {
    const staged = Promise.withResolvers<StagedCheckpoint>();
    const turn = this.#turns.take(TURN, async () => {
      const { actions, withdraw } = await this.#stage(record);
      const over = Promise.withResolvers<void>();
      const last = (end: Promise<void>) => end.finally(over.resolve);
      staged.resolve({
        actions,
        enter: entered => this.#enter(entered),
        publish: undo => last(this.#publish(record, undo)),
        retract: undo => last(this.#retract(record, undo)),
        withdraw: () => last(withdraw()),
      });
      await over.promise;
    });
    turn.catch(staged.reject);
    return staged.promise;
  }

  /** As Volume.describeCheckpoint. */
  describe(checkpointId: string, texts: CheckpointTexts): Promise<void> {
    return this.#turns.take(TURN, async () => {
      await this.#settle();
      const records = this.chain.describedRecords(checkpointId, texts);
      await this.#options.change(record => ({ ...record, checkpoints: [...records] }));
      this.chain.setRecords(records);
    });
  }

  /** As Volume.deleteCheckpoint. */
  delete(checkpointId: string): Promise<void> {
    return this.#turns.take(TURN, async () => {
      await this.#settle();
      const before = this.chain.before(checkpointId);
      if (before !== undefined && this.#mayRecord.includes(checkpointId)) {
        this.#mayRecord.push(before.checkpointId);
      }
      this.#unsettled = true;
      await this.#run(this.chain.actionsToDelete(checkpointId));
      this.chain.forget(checkpointId);
      if (before !== undefined) await this.#save(before.checkpointId);
      await this.#storeRecords();
      await this.#files.remove(checkpointId);
      await this.#endSettling();
    });
  }

  /** Stores what is not stored yet and takes idle regions out of the log, so that a crash would add less. */
  storeBits(): Promise<void> {
    return this.#turns.take(TURN, () => this.#round());
  }

  /** With guests gone and the images flushed: everything is stored, and the log is empty. */
  close(): Promise<void> {
    this.#closing.abort();
    return this.#turns.take(TURN, async () => {
      await this.#settle();
      if (this.#logLost) await this.#renewLog().catch(() => undefined);
      for (const { checkpointId } of this.chain.records) await this.#save(checkpointId);
      await this.#endTracking({ clear: true });
    });
  }

  /** Lets go of the log, which stays as it is. */
  abandon(): Promise<void> {
    this.#closing.abort();
    return this.#turns.take(TURN, () => this.#endTracking({ clear: false }));
  }

  get #node() {
    return this.#options.layers.top;
  }

  #run(actions: readonly TransactionAction[]): Promise<void> {
    return runTransaction(this.#options.host.graph, actions);
  }

  #scope() {
    const { host, record } = this.#options;
    const { sizeBytes } = this.#node;
    const regionBytes = intentRegionBytes(sizeBytes, host.intentRegionBytesMin);
    return { volumeId: record.volumeId, sizeBytes, regionBytes };
  }

  /** The durable work before a checkpoint's instant. */
  async #stage(record: CheckpointRecord): Promise<Pick<StagedCheckpoint, 'actions' | 'withdraw'>> {
    await this.#settle();
    this.chain.actionsToAdd(record);
    this.#mayRecord.push(record.checkpointId);
    const kept = this.#logLost ? undefined : this.#tracking;
    let tracking = kept;
    const withdraw = async () => {
      if (kept === undefined) await tracking?.end(this.#options.layers.anchor, { clear: false });
      await this.#files.remove(record.checkpointId);
      this.#mayRecord.pop();
    };
    try {
      tracking ??= await this.#newTracking();
      const empty = new Bitmap(this.#node.sizeBytes, record.granularityBytes);
      await this.#files.save(record.checkpointId, empty, 0);
    } catch (error) {
      await withdraw();
      throw error;
    }
    const chosen = tracking;
    return { actions: added => [...this.chain.actionsToAdd(added), this.#switchTo(chosen)], withdraw };
  }

  /** An empty log must not stand beside bits that rely on one that was there before. */
  async #newTracking(): Promise<IntentTracking> {
    for (const checkpointId of this.#mayRecord) await this.#files.remove(checkpointId);
    return IntentTracking.begin(this.#place, this.#scope());
  }

  /** From its commit on, changes go by this log, and rely on nothing that is stored. */
  #switchTo(tracking: IntentTracking): TransactionAction {
    const commit = () => {
      this.#stored = undefined;
      tracking.intents.setStored(undefined);
      const old = this.#tracking;
      this.#startTracking(tracking);
      if (old !== tracking) this.#logLost = false;
      if (old === tracking || old === undefined) return;
      void old.end(this.#options.layers.anchor, { clear: false }).catch(() => undefined);
    };
    return { kind: 'log-write-intents', nodes: () => [this.#node], prepare: () => ({ commit }) };
  }

  #startTracking(tracking: IntentTracking): void {
    this.#tracking = tracking;
    this.#options.layers.anchor.gate = tracking.intents;
    this.#rounds ??= this.#keepStoring();
  }

  async #endTracking(options: { clear: boolean }): Promise<void> {
    const tracking = this.#tracking;
    this.#tracking = undefined;
    this.#stored = undefined;
    this.#logLost = false;
    await tracking?.end(this.#options.layers.anchor, options);
  }

  /** The instant has been: in memory the checkpoint is one of the chain. */
  #enter(record: CheckpointRecord): void {
    this.chain.setRecords([...this.chain.records, record]);
    this.#unsettled = true;
  }

  async #publish({ checkpointId }: Pick<CheckpointRecord, 'checkpointId'>, undo: () => Promise<void>) {
    const last = this.chain.before(checkpointId);
    try {
      // What was written before the instant is part of the checkpoint's contents: a power cut must not undo it.
      await this.#node.flush();
      if (last !== undefined) await this.#save(last.checkpointId);
      await this.#storeRecords();
      await this.#endSettling();
    } catch (error) {
      await this.#retract({ checkpointId }, undo);
      throw error;
    }
  }

  async #retract({ checkpointId }: Pick<CheckpointRecord, 'checkpointId'>, undo: () => Promise<void>) {
    await undo();
    await this.#run(this.chain.actionsToDelete(checkpointId));
    this.chain.forget(checkpointId);
    // The record may have reached the disk all the same. Where this fails it is done by the next round.
    await this.#settle().catch(() => undefined);
  }

  #storeRecords(): Promise<void> {
    return this.#options.change(record => asTracked({ ...record, checkpoints: [...this.chain.records] }));
  }

  /** Lets the disk have what the memory has, where an earlier step failed on the way there. */
  async #settle(): Promise<void> {
    if (!this.#unsettled) return;
    for (const { checkpointId } of this.chain.records) await this.#save(checkpointId);
    await this.#storeRecords();
    await this.#files.sweep(this.chain.records);
    await this.#endSettling();
  }

  /** The record on the disk is the chain's. */
  async #endSettling(): Promise<void> {
    const past = this.#mayRecord;
    this.#mayRecord = this.chain.records.slice(-1).map(({ checkpointId }) => checkpointId);
    this.#unsettled = false;
    if (this.#recording() === undefined) await this.#endTracking({ clear: false });
    // Those that lost their file because they might have been the recording one.
    if (!this.#logLost) return;
    for (const checkpointId of past) if (this.chain.has(checkpointId)) await this.#save(checkpointId);
  }

  /** What cannot be trusted, or could not after a crash, has no file. */
  async #save(checkpointId: string): Promise<void> {
    const bitmap = this.chain.bitmap(checkpointId);
    const isUnlogged = this.#logLost && this.#mayRecord.includes(checkpointId);
    if (bitmap.inconsistent || isUnlogged) await this.#files.remove(checkpointId);
    else await this.#files.save(checkpointId, bitsOf(bitmap), this.chain.grownBytes(checkpointId));
  }

  /** Undefined where it cannot be trusted, too. */
  #recording(): DirtyBitmap | undefined {
    const { last } = this.chain;
    const bitmap = last && this.chain.bitmap(last.checkpointId);
    return bitmap?.inconsistent === false ? bitmap : undefined;
  }

  async #round(): Promise<void> {
    await this.#settle();
    const recording = this.#recording();
    if (recording === undefined) return;
    if (this.#logLost) await this.#renewLog();
    const { intents } = this.#tracking!;
    // In one turn: the copy has the bits of all changes of earlier rounds.
    const round = intents.nextRound();
    const bits = bitsOf(recording);
    if (this.#stored?.equals(bits) !== true) {
      await this.#files.save(recording.name!, bits, this.chain.grownBytes(recording.name!));
      if (this.#logLost) return;
      this.#stored = bits;
      intents.setStored(bits);
    }
    await intents.retire(round);
  }

  /**
   * The log cannot be written: whichever checkpoint the record on the disk calls the recording one has no file before
   * a change goes on without the log. In memory its bits are as good as ever.
   */
  async #loseLog(): Promise<void> {
    this.#logLost = true;
    for (const checkpointId of [...this.#mayRecord]) await this.#files.remove(checkpointId);
  }

  /** With a log again, the bits can be stored again. */
  async #renewLog(): Promise<void> {
    const tracking = await this.#newTracking();
    await this.#run([this.#switchTo(tracking)]);
  }

  async #keepStoring(): Promise<void> {
    const { clock = systemClock } = this.#options.host;
    let storedAtMs = clock.monotonicMs();
    for (;;) {
      await clock.sleep(INTENT_LOOK_INTERVAL_MS, this.#closing.signal);
      if (this.#closing.signal.aborted) return;
      const intents = this.#tracking?.intents;
      if (intents?.isEmpty !== false && !this.#logLost && !this.#unsettled) continue;
      const isQuiet = intents?.changedThisRound !== true;
      intents?.nextRound();
      if (!isQuiet && clock.monotonicMs() - storedAtMs < this.#storeIntervalMs()) continue;
      // What fails is tried again: until then the regions stay in the log.
      await this.storeBits().catch(() => undefined);
      storedAtMs = clock.monotonicMs();
    }
  }

  #storeIntervalMs(): number {
    const bytes = this.#recording()?.bits.serializedBytes ?? 0;
    return Math.max(INTENT_STORE_INTERVAL_MS, (bytes / INTENT_STORE_BYTES_PER_SECOND) * 1000);
  }
}

/** Its log says what its bitmaps are worth, not the mark of an orderly stop; older versions cannot read it. */
function asTracked(record: VolumeRecord): VolumeRecord {
  return { ...record, version: 2 };
}
