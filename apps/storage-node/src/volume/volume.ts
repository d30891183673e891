// One volume, open: its images in the block graph, its guest's export, its checkpoints and snapshots.
//
// What of its checkpoints is on disk when: see volume-checkpoints.ts.
import { type BlockGraph, type Clock, EngineError, type GraphNode } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { isNoSpace } from '../host/disk-space.ts';
import type { StateStore } from '../host/state-store.ts';
import { Turns } from '../host/turns.ts';
import type { DamagedRange } from '../restore/job-damage.ts';
import type { StreamRunner } from '../restore/stream-runner.ts';
import type { CheckpointChain, CheckpointTexts } from './checkpoint-chain.ts';
import { assertNoCommit, begun, type CommitPlan, merged, withoutCommit } from './commit-plan.ts';
import { assertMaySnapshot, assertNoSnapshots } from './snapshot-checks.ts';
import type { CheckpointCompanions, StagedCheckpoint } from './staged-checkpoint.ts';
import { VolumeCheckpoints } from './volume-checkpoints.ts';
import { keepMerged, removeUnrecordedLayers } from './volume-files.ts';
import { markFinished, markUnfinished, removeVolumeFolder } from './volume-folder.ts';
import { VolumeGuest } from './volume-guest.ts';
import { VolumeLayers } from './volume-layers.ts';
import {
  type CheckpointRecord,
  isServed,
  type LayerRecord,
  layersOf,
  type NewCheckpointRecord,
  type SnapshotRecord,
  VolumeLayout,
  type VolumeRecord,
  withHole,
} from './volume-record.ts';
import { VolumeUse } from './volume-use.ts';

export interface VolumeHost {
  readonly graph: BlockGraph;
  readonly store: StateStore;
  readonly exports: NbdExports;
  readonly streams: StreamRunner;
  /** Default: the system's. */
  readonly clock?: Clock | undefined;
  /** Least bytes of a region of write-intent logs, a power of two; default INTENT_REGION_BYTES_MIN. */
  readonly intentRegionBytesMin?: number | undefined;
}

export class Volume {
  readonly #checkpoints: VolumeCheckpoints;
  readonly #layers: VolumeLayers;
  readonly #host: VolumeHost;
  readonly #layout: VolumeLayout;
  readonly #changes = new Turns();
  #record: VolumeRecord;
  readonly #guest: VolumeGuest;
  /** What keeps others from changing it. */
  readonly use = new VolumeUse(() => this.#record);

  private constructor(host: VolumeHost, record: VolumeRecord, layers: VolumeLayers) {
    this.#host = host;
    this.#record = record;
    this.#layout = new VolumeLayout(record.volumeId);
    this.#layers = layers;
    const change = (how: (record: VolumeRecord) => VolumeRecord) => this.#change(how);
    this.#checkpoints = new VolumeCheckpoints({ host, layers, record, change });
    const { volumeId, name } = record;
    this.#guest = new VolumeGuest({ host, volumeId, name, node: layers.top, chain: this.chain });
  }

  /** Makes image and record, durably; a failure leaves nothing. */
  static async create(host: VolumeHost, record: VolumeRecord): Promise<Volume> {
    const layout = new VolumeLayout(record.volumeId);
    try {
      await markUnfinished(host.store, layout);
      await host.store.makeFolder(layout.bitmaps);
      await VolumeLayers.create(host, record.volumeId, { ...record, layer: layersOf(record)[0]! });
      await host.store.write(layout.record, record);
      await markFinished(host.store, layout);
      return await Volume.open(host, record);
    } catch (error) {
      await removeVolumeFolder(host.store, layout);
      throw error;
    }
  }

  /** Opens the images and the bitmaps, and exports a volume that is ready. A commit that was under way is over. */
  static async open(host: VolumeHost, stored: VolumeRecord): Promise<Volume> {
    const record = withoutCommit(stored);
    await removeUnrecordedLayers(host.store, record);
    if (stored.commit !== undefined) {
      // On a full disk the next change stores it: a guest need not wait for that.
      await host.store.write(new VolumeLayout(record.volumeId).record, record).catch(passNoSpace);
    }
    const layers = await VolumeLayers.open(host, record.volumeId, { ...record, layers: layersOf(record) });
    const volume = new Volume(host, record, layers);
    try {
      await volume.#checkpoints.load();
      if (isServed(record)) await volume.#serve();
    } catch (error) {
      layers.abandonSource();
      await host.streams.end(record.volumeId);
      await volume.#checkpoints.abandon();
      await layers.close();
      throw error;
    }
    return volume;
  }

  get chain(): CheckpointChain {
    return this.#checkpoints.chain;
  }

  get record(): VolumeRecord {
    return this.#record;
  }

  /** What the guest sees. */
  get node(): GraphNode {
    return this.#layers.top;
  }

  /** Whether a block node of that name is one of its own. */
  owns(name: string): boolean {
    return name === this.node.name || name.startsWith(`${this.node.name}-`);
  }

  /** Where the guest connects; empty while the volume is not exported. */
  get exportUri(): string {
    return this.#guest.uri;
  }

  /** Clients of its export. */
  get connections(): number {
    return this.#guest.connections;
  }

  /**
   * A restore has filled the volume, or its backup can be read through it: durable, and the guest may come. `holes` are
   * not as in the backup, and count as changed since.
   */
  async becomeReady(holes: readonly DamagedRange[] = []): Promise<void> {
    await this.markChanged(holes);
    await this.#change(record => ({ ...record, state: 'ready' }));
    await this.#serve();
  }

  /** For what becomes different past the guest's way. */
  async markChanged(ranges: readonly DamagedRange[]): Promise<void> {
    for (const { offset, length } of ranges) {
      this.node.bitmaps.recordWrite(offset, length);
      await this.#layers.anchor.gate?.before(offset, length);
    }
  }

  /** A range of the backup that it still reads from is lost: durable before it becomes zeroes. */
  async addHole(hole: DamagedRange): Promise<void> {
    await this.markChanged([hole]);
    await this.#change(record => withHole(record, hole));
  }

  /** Without effect where it goes on, or has ended well. */
  async resumeStream(): Promise<void> {
    if (this.#record.source !== undefined && this.#record.state === 'ready')
      await this.#host.streams.start(this);
  }

  /** All of its backup is pulled: from here on it stands alone. */
  dropSource(): Promise<void> {
    return this.#change(({ source: _, ...record }) => record);
  }

  /** Takes the guest away; whoever waits for the backup's host fails. Without one nothing happens. */
  async abandonSource(): Promise<void> {
    if (this.#record.source === undefined) return;
    // First the guest, who then sees a lost connection, and no failed request.
    const gone = this.#guest.close();
    this.#layers.abandonSource();
    await gone;
  }

  /** Whoever waits for the backup's host now fails; not where a guest, who would see a failed request, is there. */
  cancelSourceReads(): void {
    if (this.connections === 0) this.#layers.cancelSourceReads();
  }

  /**
   * Begins to change its contents past the guest: nobody may back it up, or take snapshots of what is neither the old
   * nor the new, until `endOverwriting`. Throws `volume-busy`, also while guests are connected unless that may be.
   */
  async beginOverwriting(who: string, { evenIfConnected }: { evenIfConnected: boolean }): Promise<void> {
    this.use.assertStill();
    this.assertNoBackup(who);
    assertNoCommit(this.#record);
    if (!evenIfConnected) await this.#guest.withhold(who);
    this.use.overwriter = who;
  }

  endOverwriting(): void {
    this.use.overwriter = undefined;
    this.#guest.admit();
  }

  /** It is copied away: its guest goes on, and nobody may begin anything until that ends. Throws `volume-busy`. */
  beginMove(): void {
    this.use.assertStill();
    this.assertNoBackup('a move');
    assertNoCommit(this.#record);
    assertNoSnapshots(this.#record);
    this.#assertUnused();
    this.use.isMoving = true;
  }

  /** Its guest's connections are cut at once, and `sent` does what is left; then it serves nobody any more. */
  async seal(runId: string, sent: () => Promise<void>): Promise<void> {
    await this.#guest.close();
    await sent();
    await this.#change(record => ({ ...record, sealedBy: runId }));
  }

  /** Serves its guest again, also after a `seal` that failed. Good to repeat. */
  async unseal(): Promise<void> {
    // Also where memory knows of no seal: one that failed may be on the disk all the same.
    await this.#change(({ sealedBy: _, ...record }) => record);
    if (isServed(this.#record) && this.#guest.edge === undefined) await this.#serve();
  }

  /**
   * Adds a checkpoint, and whatever `more` does, at one instant. When the new record cannot be made durable
   * `undo` is called, the checkpoint is merged away again, and the error passed on.
   */
  async addCheckpoint(
    record: NewCheckpointRecord,
    more: CheckpointCompanions = { actions: [], undo: async () => {} },
  ): Promise<void> {
    this.use.assertNotOverwritten();
    return this.#checkpoints.add({ description: '', originBackupId: '', ...record }, more);
  }

  /**
   * Does what takes time and can fail of adding a checkpoint, whose moment is given later. Its other changes of
   * checkpoints wait until it has ended. Rejects as `addCheckpoint`, with nothing left behind.
   */
  stageCheckpoint(record: CheckpointRecord): Promise<StagedCheckpoint> {
    return this.#checkpoints.stage(record);
  }

  /** Changes what is given of it. Throws `checkpoint-not-found`, `checkpoint-name-taken`. */
  describeCheckpoint(checkpointId: string, texts: CheckpointTexts): Promise<void> {
    return this.#checkpoints.describe(checkpointId, texts);
  }

  /** Throws `checkpoint-not-found`, and `volume-in-group` for that of a group that is not decided. */
  async deleteCheckpoint(checkpointId: string): Promise<void> {
    this.use.assertNotOfGroup(checkpointId);
    return this.#checkpoints.delete(checkpointId);
  }

  /**
   * Keeps the contents of one instant, which lies between the call and its end; from then on the guest writes to
   * a new image. Good to repeat. What fails changes nothing. Throws `snapshot-limit`, `volume-busy`, and
   * `invalid-request` for an id that was used before.
   */
  async takeSnapshot(snapshot: {
    snapshotId: string;
    name: string;
    now: () => number;
  }): Promise<SnapshotRecord> {
    const before = this.#record;
    const layers = layersOf(before);
    const { snapshotId, name, now } = snapshot;
    const known = before.snapshots.find(one => one.snapshotId === snapshotId);
    if (known !== undefined) return known;
    this.use.assertStill();
    assertNoCommit(before);
    assertMaySnapshot(before, snapshotId);
    const active = layers.at(-1)!;
    const layer = { layerId: snapshotId, format: 'qcow2' } as const;
    let taken: SnapshotRecord | undefined;
    await this.#layers.putAbove(active, layer, async () => {
      const record = { snapshotId, name, createdAtMs: now(), layerId: active.layerId };
      await this.#change(current => ({
        ...current,
        layers: [...layers, layer],
        snapshots: [...current.snapshots, record],
      }));
      taken = record;
    });
    return taken!;
  }

  /** Throws `volume-busy` while a backup keeps its frozen moment above the images. */
  assertNoBackup(who = 'a commit'): void {
    if ([...this.node.parents].every(edge => edge.parent === undefined)) return;
    const { name } = this.#record;
    const text = `Volume '${name}' is being backed up: ${who} has to wait. Start it after the backup's end.`;
    throw new TidemarkError('volume-busy', text);
  }

  /** The snapshots that it overwrites are listed no more, before the first byte is. */
  beginCommit(plan: CommitPlan): Promise<void> {
    return this.#change(record => begun(record, plan));
  }

  /** The commit has not begun after all: `snapshots` are those of before. */
  withdrawCommit(snapshots: readonly SnapshotRecord[]): Promise<void> {
    return this.#become(record => withoutCommit({ ...record, snapshots: [...snapshots] }));
  }

  /** From here on the volume is the base and what is below it: to be called while the guest is at rest. */
  pivot(plan: CommitPlan): Promise<void> {
    return this.#change(record => merged(record, plan));
  }

  /** Puts the files of merged images away; `isMerged`: the job took them out of the chain. */
  async endCommit(plan: CommitPlan, isMerged: boolean): Promise<void> {
    // The record of an active commit says since the pivot that it is over, and may by now speak of another one.
    if (this.#record.commit?.commitId === plan.commit.commitId) {
      await this.#become(record => (isMerged ? merged(record, plan) : withoutCommit(record)));
    }
    if (!isMerged) return;
    for (const layer of plan.mergedLayers) {
      const file = this.#layout.layer(layer);
      if (plan.commit.deleteFiles) await this.#host.store.remove(file);
      else await keepMerged(this.#host.store, this.#layout, layer);
    }
  }

  /** The block node of one of its images. */
  layerNode(layer: LayerRecord): GraphNode {
    return this.#layers.node(layer);
  }

  /** Of all its images. */
  allocatedBytes(): Promise<number> {
    return this.#layers.allocatedBytes(layersOf(this.#record));
  }

  /** Takes the guest away, stores the bitmaps, makes everything durable, lets go of the image. */
  async close(): Promise<void> {
    await this.#guest.close();
    await this.node.flush();
    try {
      await this.#checkpoints.close();
    } finally {
      await this.#layers.close();
    }
  }

  /** Before its turn comes: what holds that up may be waiting for a backup's host. Throws as `delete`. */
  async prepareDelete(): Promise<void> {
    this.#assertUnused();
    await this.abandonSource();
  }

  /** Throws kind `busy` or `conflict`, with nothing changed, while a job uses the volume. */
  async delete(): Promise<void> {
    this.#assertUnused();
    await this.abandonSource();
    await this.#guest.close();
    await this.#host.streams.end(this.#record.volumeId);
    await this.#checkpoints.abandon();
    await this.#layers.close();
    await removeVolumeFolder(this.#host.store, this.#layout);
  }

  #assertUnused(): void {
    assertNoCommit(this.#record);
    this.use.assertNotOfGroup();
    const user = [...this.node.parents].find(edge => edge !== this.#guest.edge);
    if (user === undefined) return;
    const text = `Volume '${this.#record.name}' is busy: it is used by ${user.user}. Wait for it or cancel it`;
    throw new EngineError('busy', text, { node: this.node.name });
  }

  /** The stream first: while it finds its place, requests of guests may not be in the way. */
  async #serve(): Promise<void> {
    if (this.#record.source !== undefined) await this.#host.streams.start(this);
    this.#guest.open();
  }

  /** For what is so already: where it cannot be stored it still is, and is stored with the next change. */
  #become(change: (record: VolumeRecord) => VolumeRecord): Promise<void> {
    return this.#changes.take(this.#layout.record, async () => {
      this.#record = change(this.#record);
      await this.#host.store.write(this.#layout.record, this.#record);
    });
  }

  /** One after the other: a job pivots whenever it is told to, in nobody's turn. */
  #change(change: (record: VolumeRecord) => VolumeRecord): Promise<void> {
    return this.#changes.take(this.#layout.record, async () => {
      const record = change(this.#record);
      await this.#host.store.write(this.#layout.record, record);
      this.#record = record;
    });
  }
}

function passNoSpace(error: unknown): void {
  if (!isNoSpace(error)) throw error;
}
