// The checkpoints of one volume as a chain of dirty bitmaps: bitmap i records the writes between checkpoint
// i and i+1, and only the last one records. A bitmap's name is its checkpoint's id. "Changed since k" is
// the union from k on.
import {
  addBitmap,
  Bitmap,
  type BitmapReference,
  type DirtyBitmap,
  disableBitmap,
  enableBitmap,
  type GraphNode,
  mergeBitmaps,
  removeBitmap,
  type TransactionAction,
} from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { VOLUME_CHECKPOINTS_MAX } from '../limits.ts';
import type { CheckpointRecord } from './volume-record.ts';

/** What may change of a checkpoint; what is left out stays as it is. */
export interface CheckpointTexts {
  readonly name?: string | undefined;
  readonly description?: string | undefined;
}

export interface CheckpointSummary extends CheckpointRecord {
  /** Bytes in whole granules that were written since; 0 where that cannot be said. */
  readonly changedSinceBytes: number;
  readonly recording: boolean;
  /** The changes since this checkpoint cannot be trusted: the next backup from it has to be full. */
  readonly inconsistent: boolean;
  /** Of the changed bytes, those marked only because a crash left open whether they were written. */
  readonly grownBytes: number;
}

export class CheckpointChain {
  readonly #node: GraphNode;
  readonly #volumeName: string;
  #records: readonly CheckpointRecord[];
  /** By checkpoint: what crashes added to its own bitmap. */
  readonly #grown = new Map<string, number>();

  constructor(options: { node: GraphNode; volumeName: string; records: readonly CheckpointRecord[] }) {
    this.#node = options.node;
    this.#volumeName = options.volumeName;
    this.#records = options.records;
  }

  get records(): readonly CheckpointRecord[] {
    return this.#records;
  }

  get last(): CheckpointRecord | undefined {
    return this.#records.at(-1);
  }

  bitmap(checkpointId: string): DirtyBitmap {
    return this.#node.bitmaps.get(checkpointId);
  }

  has(checkpointId: string): boolean {
    return this.#records.some(record => record.checkpointId === checkpointId);
  }

  /** Oldest first. */
  summaries(): CheckpointSummary[] {
    const summaries: CheckpointSummary[] = [];
    let union: Bitmap | undefined;
    let inconsistent = false;
    let grown = 0;
    for (const record of this.#records.toReversed()) {
      const bitmap = this.bitmap(record.checkpointId);
      inconsistent ||= bitmap.inconsistent;
      union ??= new Bitmap(this.#node.sizeBytes, record.granularityBytes);
      union.merge(bitmap.bits);
      const changedSinceBytes = inconsistent ? 0 : union.dirtyBytes;
      grown += this.grownBytes(record.checkpointId);
      const grownBytes = Math.min(grown, changedSinceBytes);
      summaries.push({ ...record, changedSinceBytes, recording: bitmap.recording, inconsistent, grownBytes });
    }
    return summaries.reverse();
  }

  /** Checkpoints since which the changes are known, oldest first. */
  trusted(): CheckpointRecord[] {
    const bad = this.#records.findLastIndex(record => this.bitmap(record.checkpointId).inconsistent);
    return this.#records.slice(bad + 1);
  }

  /** The union from the checkpoint on, up to a later one or, without it, as of now. Throws as `namesFrom`. */
  changedSince(checkpointId: string, untilId?: string): Bitmap {
    const union = new Bitmap(this.#node.sizeBytes, this.#get(checkpointId).granularityBytes);
    for (const name of this.namesFrom(checkpointId, untilId)) union.merge(this.bitmap(name).bits);
    return union;
  }

  /**
   * Bitmap names from the checkpoint on, up to the one before `untilId`. Throws `checkpoint-not-found`,
   * `invalid-request` when that is not a later one, and `checkpoint-inconsistent` when one of them missed writes.
   */
  namesFrom(checkpointId: string, untilId?: string): string[] {
    const base = this.#get(checkpointId);
    const start = this.#records.indexOf(base);
    const end = untilId === undefined ? this.#records.length : this.#records.indexOf(this.#get(untilId));
    if (end <= start) throw this.#notLater(base, this.#records[end]!);
    const names = this.#records.slice(start, end).map(record => record.checkpointId);
    if (!names.some(name => this.bitmap(name).inconsistent)) return names;
    throw new TidemarkError(
      'checkpoint-inconsistent',
      `What changed on volume '${this.#volumeName}' since checkpoint '${base.name}' is not known: a bitmap or ` +
        'the write-intent log was lost or damaged. Make a full backup; later increments can build on that.',
    );
  }

  /** Closes the recording bitmap and opens the next one. Throws `checkpoint-name-taken`, `checkpoint-limit`. */
  actionsToAdd(record: CheckpointRecord): TransactionAction[] {
    if (this.#hasNamed(record.name) || this.has(record.checkpointId)) throw this.#nameTaken(record.name);
    if (this.#records.length >= VOLUME_CHECKPOINTS_MAX) {
      throw new TidemarkError(
        'checkpoint-limit',
        `Volume '${this.#volumeName}' has ${this.#records.length} checkpoints, and no volume has more than ` +
          `${VOLUME_CHECKPOINTS_MAX}. Delete some first: each goes into the one before it.`,
      );
    }
    const { last } = this;
    const closing = last !== undefined && !this.bitmap(last.checkpointId).inconsistent;
    return [
      ...(closing ? [disableBitmap(this.#reference(last.checkpointId))] : []),
      addBitmap({ ...this.#reference(record.checkpointId), granularityBytes: record.granularityBytes }),
    ];
  }

  /**
   * Merges the bitmap into its predecessor, so that no surviving increment changes by a bit. What would
   * merge with bits that cannot be trusted becomes untrusted itself.
   */
  actionsToDelete(checkpointId: string): TransactionAction[] {
    const record = this.#get(checkpointId);
    const own = this.#reference(checkpointId);
    const remove = removeBitmap(own);
    const before = this.#records[this.#records.indexOf(record) - 1];
    if (before === undefined) return [remove];
    const into = this.#reference(before.checkpointId);
    const target = this.bitmap(before.checkpointId);
    if (target.inconsistent) return [remove];
    if (this.bitmap(checkpointId).inconsistent) return [distrust(this.#node, target), remove];
    const enable = record === this.last ? [enableBitmap(into)] : [];
    return [mergeBitmaps(into, [own]), ...enable, remove];
  }

  /** What crashes added to the bitmap of one checkpoint, in whole granules. */
  grownBytes(checkpointId: string): number {
    return this.#grown.get(checkpointId) ?? 0;
  }

  noteGrown(checkpointId: string, bytes: number): void {
    this.#grown.set(checkpointId, this.grownBytes(checkpointId) + bytes);
  }

  /** Bytes of `changedSince` that are there only because a crash left open whether they were written. */
  grownBytesSince(checkpointId: string): number {
    const from = this.#records.indexOf(this.#get(checkpointId));
    const sum = this.#records
      .slice(from)
      .reduce((bytes, one) => bytes + this.grownBytes(one.checkpointId), 0);
    return sum === 0 ? 0 : Math.min(sum, this.changedSince(checkpointId).dirtyBytes);
  }

  /** After the transaction of `actionsToDelete` has committed. */
  forget(checkpointId: string): void {
    const before = this.before(checkpointId);
    if (before !== undefined) this.noteGrown(before.checkpointId, this.grownBytes(checkpointId));
    this.#grown.delete(checkpointId);
    this.#records = this.#records.filter(record => record.checkpointId !== checkpointId);
  }

  /** The records as they are with other texts. Throws `checkpoint-not-found`, `checkpoint-name-taken`. */
  describedRecords(checkpointId: string, texts: CheckpointTexts): CheckpointRecord[] {
    const record = this.#get(checkpointId);
    const { name = record.name, description = record.description } = texts;
    if (name !== record.name && this.#hasNamed(name)) throw this.#nameTaken(name);
    return this.#records.map(known => (known === record ? { ...record, name, description } : known));
  }

  /** After the transaction has committed. */
  setRecords(records: readonly CheckpointRecord[]): void {
    this.#records = records;
  }

  /** Throws `checkpoint-not-found`. */
  before(checkpointId: string): CheckpointRecord | undefined {
    return this.#records[this.#records.indexOf(this.#get(checkpointId)) - 1];
  }

  #get(checkpointId: string): CheckpointRecord {
    const record = this.#records.find(known => known.checkpointId === checkpointId);
    if (record !== undefined) return record;
    throw new TidemarkError(
      'checkpoint-not-found',
      `Volume '${this.#volumeName}' has no checkpoint ${checkpointId}. List its checkpoints to see which there are.`,
    );
  }

  #hasNamed(name: string): boolean {
    return this.#records.some(known => known.name === name);
  }

  #nameTaken(name: string): TidemarkError {
    return new TidemarkError(
      'checkpoint-name-taken',
      `Volume '${this.#volumeName}' has a checkpoint '${name}' already. Choose another name.`,
    );
  }

  #notLater(since: CheckpointRecord, until: CheckpointRecord): TidemarkError {
    return new TidemarkError(
      'invalid-request',
      `Checkpoint '${until.name}' of volume '${this.#volumeName}' does not come after '${since.name}': ` +
        'give the earlier one as since, the later one as until.',
    );
  }

  #reference(checkpointId: string): BitmapReference {
    return { node: this.#node.name, name: checkpointId };
  }
}

function distrust(node: GraphNode, bitmap: DirtyBitmap): TransactionAction {
  return {
    kind: 'distrust-bitmap',
    nodes: () => [node],
    prepare: () => ({
      commit: () => {
        bitmap.markInconsistent();
        node.bitmaps.refresh();
      },
    }),
  };
}
