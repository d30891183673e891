// One volume, open: its image in the block graph, its guest's export, its checkpoints.
//
// What is on disk when. A checkpoint's bits are stored when its bitmap stops recording, before the record
// that names the next checkpoint. The recording bitmap is stored by an orderly close, which then writes
// the clean mark; opening removes the mark before the first guest write. So without a mark the recording
// bitmap missed writes and is flagged, never trusted.
import {
  type Attachment,
  type BlockGraph,
  type BlockNode,
  createQcow2,
  createRawFile,
  DirtyBitmap,
  EngineError,
  FileNode,
  type GraphNode,
  openImage,
  PERMISSION,
  PERMISSIONS_ALL,
  RawImage,
  runTransaction,
  type TransactionAction,
} from '@tidemark/engine';
import type { ExtraContext } from '../exports/block-export.ts';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { decodeBitmap, encodeBitmap } from './bitmap-file.ts';
import { CheckpointChain } from './checkpoint-chain.ts';
import { dirtyBitmapContext } from './dirty-bitmap-context.ts';
import type { StateStore } from './state-store.ts';
import { type CheckpointRecord, cleanSchema, VolumeLayout, type VolumeRecord } from './volume-record.ts';

export interface VolumeHost {
  readonly graph: BlockGraph;
  readonly store: StateStore;
  readonly exports: NbdExports;
}

export class Volume {
  readonly chain: CheckpointChain;
  readonly node: GraphNode;
  readonly #host: VolumeHost;
  readonly #layout: VolumeLayout;
  #record: VolumeRecord;
  #guest: Attachment | undefined;

  private constructor(host: VolumeHost, record: VolumeRecord, node: GraphNode) {
    this.#host = host;
    this.#record = record;
    this.#layout = new VolumeLayout(record.volumeId);
    this.node = node;
    this.chain = new CheckpointChain({ node, volumeName: record.name, records: record.checkpoints });
  }

  /** Makes image and record, durably; a failure leaves nothing. */
  static async create(host: VolumeHost, record: VolumeRecord): Promise<Volume> {
    const layout = new VolumeLayout(record.volumeId);
    try {
      await host.store.makeFolder(layout.bitmaps);
      const path = host.store.path(layout.image(record.format));
      if (record.format === 'raw') await createRawFile(path, record.sizeBytes);
      else await createQcow2(path, { sizeBytes: record.sizeBytes });
      await host.store.write(layout.record, record);
      return await Volume.open(host, record);
    } catch (error) {
      await host.store.removeFolder(layout.folder);
      throw error;
    }
  }

  /** Opens the image and the bitmaps, and exports a volume that is ready. */
  static async open(host: VolumeHost, record: VolumeRecord): Promise<Volume> {
    const volume = new Volume(host, record, await addImage(host, record));
    try {
      await volume.#loadBitmaps();
      if (record.state === 'ready') volume.#export();
    } catch (error) {
      await volume.#removeNodes();
      throw error;
    }
    return volume;
  }

  get record(): VolumeRecord {
    return this.#record;
  }

  /** Where the guest connects; empty while the volume is not exported. */
  get exportUri(): string {
    return this.#guest === undefined ? '' : this.#host.exports.uri(this.#record.name);
  }

  /** A restore has filled the volume: durable, and the guest may come. */
  async becomeReady(): Promise<void> {
    await this.#saveRecord({ ...this.#record, state: 'ready' });
    this.#export();
  }

  /**
   * Adds a checkpoint, and whatever `more` does, at one instant. When the new record cannot be made durable
   * `undo` is called, the checkpoint is merged away again, and the error passed on.
   */
  async addCheckpoint(
    record: CheckpointRecord,
    more: { actions: readonly TransactionAction[]; undo: () => Promise<void> } = {
      actions: [],
      undo: async () => {},
    },
  ): Promise<void> {
    const { last, records } = this.chain;
    await runTransaction(this.#host.graph, [...this.chain.actionsToAdd(record), ...more.actions]);
    this.chain.setRecords([...records, record]);
    try {
      if (last !== undefined) await this.#saveBitmap(last.checkpointId);
      await this.#saveRecord({ ...this.#record, checkpoints: [...this.chain.records] });
    } catch (error) {
      await more.undo();
      await runTransaction(this.#host.graph, this.chain.actionsToDelete(record.checkpointId));
      this.chain.setRecords(records);
      throw error;
    }
  }

  /** Throws `checkpoint-not-found`. */
  async deleteCheckpoint(checkpointId: string): Promise<void> {
    const before = this.chain.before(checkpointId);
    await runTransaction(this.#host.graph, this.chain.actionsToDelete(checkpointId));
    this.chain.setRecords(this.chain.records.filter(record => record.checkpointId !== checkpointId));
    if (before !== undefined) await this.#saveBitmap(before.checkpointId);
    await this.#saveRecord({ ...this.#record, checkpoints: [...this.chain.records] });
    await this.#host.store.remove(this.#layout.bitmap(checkpointId));
  }

  allocatedBytes(): Promise<number> {
    return this.node.allocatedBytes();
  }

  /** Takes the guest away, stores the bitmaps, makes everything durable, lets go of the image. */
  async close(): Promise<void> {
    await this.#unexport();
    await this.node.flush();
    for (const { checkpointId } of this.chain.records) await this.#saveBitmap(checkpointId);
    const { last } = this.chain;
    if (last !== undefined && !this.chain.bitmap(last.checkpointId).inconsistent) {
      await this.#host.store.write(this.#layout.clean, { version: 1, checkpointId: last.checkpointId });
    }
    await this.#removeNodes();
  }

  /** Throws kind `busy` or `conflict`, with nothing changed, while a job uses the volume. */
  async delete(): Promise<void> {
    this.#assertUnused();
    await this.#unexport();
    await this.#removeNodes();
    await this.#host.store.remove(this.#layout.record);
    await this.#host.store.removeFolder(this.#layout.folder);
  }

  #assertUnused(): void {
    const user = [...this.node.parents].find(edge => edge !== this.#guest?.edge);
    if (user === undefined) return;
    const text = `Volume '${this.#record.name}' is busy: it is used by ${user.user}. Wait for it or cancel it`;
    throw new EngineError('busy', text, { node: this.node.name });
  }

  #export(): void {
    const { name } = this.#record;
    const guest = this.#host.graph.attach(this.node.name, {
      user: `export '${name}'`,
      uses: PERMISSION.consistentRead | PERMISSION.write,
      shares: PERMISSIONS_ALL & ~PERMISSION.resize,
    });
    this.#guest = guest;
    this.#host.exports.add({
      name,
      description: `volume ${this.#record.volumeId}`,
      listed: true,
      node: guest,
      extraContexts: () => this.#contexts(),
    });
  }

  /** One for each checkpoint whose changes are known. */
  #contexts(): ExtraContext[] {
    return this.chain
      .trusted()
      .map(({ checkpointId }) =>
        dirtyBitmapContext(checkpointId, () => this.chain.changedSince(checkpointId)),
      );
  }

  async #unexport(): Promise<void> {
    if (this.#guest === undefined) return;
    await this.#host.exports.remove(this.#record.name, { mode: 'hard' });
    await this.#guest.close();
    this.#guest = undefined;
  }

  async #removeNodes(): Promise<void> {
    const { graph } = this.#host;
    const below = this.node.children.map(edge => edge.node.name);
    await graph.remove(this.node.name);
    for (const name of below) await graph.remove(name);
  }

  async #saveRecord(record: VolumeRecord): Promise<void> {
    await this.#host.store.write(this.#layout.record, record);
    this.#record = record;
  }

  /** An untrusted bitmap has no file. */
  async #saveBitmap(checkpointId: string): Promise<void> {
    const bitmap = this.chain.bitmap(checkpointId);
    const name = this.#layout.bitmap(checkpointId);
    if (bitmap.inconsistent) await this.#host.store.remove(name);
    else await this.#host.store.writeBytes(name, encodeBitmap(bitmap.bits));
  }

  async #loadBitmaps(): Promise<void> {
    const { store } = this.#host;
    const clean = await store.read(this.#layout.clean, cleanSchema);
    const { last, records } = this.chain;
    for (const record of records) {
      const recording = record === last;
      const trusted = !recording || clean?.checkpointId === record.checkpointId;
      const file = trusted ? await store.readBytes(this.#layout.bitmap(record.checkpointId)) : undefined;
      const { granularityBytes } = record;
      const bits = file && decodeBitmap(file, { sizeBytes: this.node.sizeBytes, granularityBytes });
      const bitmap = new DirtyBitmap(this.node.sizeBytes, {
        name: record.checkpointId,
        granularityBytes,
        recording,
        persistent: true,
      });
      if (bits === undefined) bitmap.markInconsistent();
      else bitmap.bits.merge(bits);
      this.node.bitmaps.insert(bitmap);
    }
    await store.remove(this.#layout.clean);
  }
}

async function addImage({ graph, store }: VolumeHost, record: VolumeRecord): Promise<GraphNode> {
  const path = store.path(new VolumeLayout(record.volumeId).image(record.format));
  const name = `volume-${record.volumeId}`;
  if (record.format === 'qcow2') {
    const image: BlockNode = await openImage(path, { format: 'qcow2' });
    return graph.add({ name }, () => image);
  }
  const file = await FileNode.open(path);
  graph.add({ name: `${name}-file` }, () => file);
  return graph.add({ name, children: { file: `${name}-file` } }, ({ file: child }) =>
    RawImage.open(child!, { keepChildren: true }),
  );
}
