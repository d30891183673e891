// All volumes of this storage node.
import { IMAGE_BYTES_MAX, SECTOR_BYTES } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { diskSpace } from '../host/disk-space.ts';
import { checkId } from '../host/plain-id.ts';
import { Turns } from '../host/turns.ts';
import { NAME_LENGTH_MAX } from '../limits.ts';
import { type ArrivalAnswer, ArrivingVolume, assertRoom, type NewArrival } from './arriving-volume.ts';
import type { ParcelItem } from './bitmap-parcel.ts';
import { Volume, type VolumeHost } from './volume.ts';
import { isUnfinished, markFinished, removeVolumeFolder } from './volume-folder.ts';
import {
  type SourceRecord,
  VOLUMES_FOLDER,
  VolumeLayout,
  type VolumeRecord,
  volumeSchema,
} from './volume-record.ts';

export interface CreateVolume {
  volumeId: string;
  name: string;
  sizeBytes: number;
  format: string;
  state: VolumeRecord['state'];
  /** Its first image stands on this. */
  source?: SourceRecord;
  /** The run that restores it. */
  madeBy?: string;
}

/** Told of what a person has to look at. */
export type VolumeReport = (problem: { volumeId: string; message: string; error?: unknown }) => void;

/** Whether a removal is of that volume, and not of another one of its id. */
type IsMeant = (record: VolumeRecord) => boolean;

export class VolumeRegistry {
  readonly #host: VolumeHost;
  readonly #now: () => number;
  readonly #report: VolumeReport;
  readonly #volumes = new Map<string, Volume>();
  /** Found at the start, and left as they are: nobody may make a volume over them. */
  readonly #unopened = new Set<string>();
  /** From other storage nodes, and not complete yet. */
  readonly #arriving = new Map<string, ArrivingVolume>();
  readonly #turns = new Turns();

  constructor(options: VolumeHost & { now: () => number; report: VolumeReport }) {
    const { now, report, ...host } = options;
    this.#host = host;
    this.#now = now;
    this.#report = report;
  }

  /**
   * Opens and exports every volume. One that cannot be opened is reported and left as it is, so that the
   * others' guests are served; half-made and half-restored ones are removed.
   */
  async load(): Promise<void> {
    for (const volumeId of await this.#host.store.list(VOLUMES_FOLDER)) {
      try {
        await this.#load(volumeId);
      } catch (error) {
        this.#unopened.add(volumeId);
        const message = error instanceof Error ? error.message : String(error);
        this.#report({ volumeId, message, error });
      }
    }
  }

  async #load(volumeId: string): Promise<void> {
    const layout = new VolumeLayout(volumeId);
    const record = await this.#host.store.read(layout.record, volumeSchema);
    const { store } = this.#host;
    if (record === undefined && !(await isUnfinished(store, layout)))
      throw recordLost(store.path(layout.folder));
    if (record === undefined || record.state === 'restoring') return removeVolumeFolder(store, layout);
    await markFinished(store, layout);
    const volume = await Volume.open(this.#host, record);
    this.#volumes.set(volumeId, volume);
    if (record.commit !== undefined) {
      const message = `commit ${record.commit.commitId} was interrupted; the guest goes on where it was`;
      this.#report({ volumeId, message });
    }
    for (const checkpoint of volume.chain.summaries()) {
      const { name, inconsistent, recording, grownBytes } = checkpoint;
      if (inconsistent) {
        const message = `changes since checkpoint '${name}' are not known: a bitmap or the log was lost or damaged`;
        this.#report({ volumeId, message });
      } else if (recording && grownBytes > 0) {
        const message = `${grownBytes} bytes count as changed since checkpoint '${name}' because a crash left it open`;
        this.#report({ volumeId, message });
      }
    }
  }

  /** Closes every volume in order; one that fails does not keep the others from being stored. */
  async close(): Promise<void> {
    await this.#turns.idle();
    const tell = (volumeId: string) => (error: unknown) =>
      this.#report({ volumeId, message: `could not be closed in order: ${String(error)}`, error });
    // What is left of one that has not arrived is removed by the next start.
    for (const [volumeId, arriving] of this.#arriving) await arriving.discard().catch(tell(volumeId));
    this.#arriving.clear();
    for (const [volumeId, volume] of this.#volumes) await volume.close().catch(tell(volumeId));
    this.#volumes.clear();
  }

  /** Those who wait for a backup's host wait no longer, and their guests are gone: all is about to be closed. */
  async abandonSources(): Promise<void> {
    await Promise.all([...this.#volumes.values()].map(volume => volume.abandonSource()));
  }

  get count(): number {
    return this.#volumes.size;
  }

  /** Those that are still being filled included. */
  all(): Volume[] {
    return [...this.#volumes.values()];
  }

  list(): Volume[] {
    return this.all().filter(volume => volume.record.state !== 'restoring');
  }

  has(volumeId: string): boolean {
    return this.#volumes.has(volumeId);
  }

  /** Also one that could not be opened, and may be by the next start. */
  knows(volumeId: string): boolean {
    return this.has(volumeId) || this.#unopened.has(volumeId);
  }

  /** Throws `volume-not-found`. */
  get(volumeId: string): Volume {
    const volume = this.#volumes.get(volumeId);
    if (volume !== undefined) return volume;
    throw new TidemarkError(
      'volume-not-found',
      `There is no volume ${volumeId} on this storage node. List the volumes to see which there are.`,
    );
  }

  /** Changes of one volume happen one after the other. */
  inTurn<T>(volumeId: string, action: (volume: Volume) => Promise<T>): Promise<T> {
    return this.#turns.take(volumeId, () => action(this.get(volumeId)));
  }

  /** Resolves in the volume's turn, which lasts until `end` is called. Rejects with `volume-not-found`. */
  hold(volumeId: string): Promise<{ volume: Volume; end: () => void }> {
    const held = Promise.withResolvers<{ volume: Volume; end: () => void }>();
    const turn = this.inTurn(volumeId, volume => {
      const { promise, resolve: end } = Promise.withResolvers<void>();
      held.resolve({ volume, end });
      return promise;
    });
    turn.catch(held.reject);
    return held.promise;
  }

  /** Throws `volume-name-taken`, `invalid-volume-size`, `invalid-name`, `invalid-request`. */
  create(request: CreateVolume): Promise<Volume> {
    const format = checkNew(request);
    return this.#turns.take('create', async () => {
      this.#checkFree(request);
      const empty = { checkpoints: [], layers: [], snapshots: [] };
      const record = { version: 2, ...request, format, createdAtMs: this.#now(), ...empty } as const;
      const volume = await Volume.create(this.#host, record);
      this.#volumes.set(request.volumeId, volume);
      return volume;
    });
  }

  /**
   * Good to repeat by the run that brings it; what another one left on its way gives way. Throws as `create` does, and
   * `storage-full`.
   */
  prepareArrival({
    allocatedBytes,
    ...request
  }: Omit<NewArrival, 'format'> & { format: string; allocatedBytes: number }): Promise<ArrivalAnswer> {
    const format = checkNew(request);
    return this.#turns.take('create', async () => {
      const known = this.#arriving.get(request.volumeId);
      if (known?.arrival.madeBy === request.madeBy) return known.answer;
      if (known !== undefined) await this.#discard(known);
      this.#checkFree(request);
      const { availableBytes } = await diskSpace(this.#host.store.folder);
      assertRoom({ ...request, format }, allocatedBytes, availableBytes);
      const arriving = await ArrivingVolume.make(this.#host, { ...request, format });
      this.#arriving.set(request.volumeId, arriving);
      return arriving.answer;
    });
  }

  /**
   * Good to repeat. Throws `volume-not-found` where the copy at `imageUri` is not on its way by that run, such as after
   * a restart, also where the run has another one made since: nothing was written to that. And what keeps it from
   * being complete: nothing of it is left then.
   */
  acceptArrival(
    { volumeId, madeBy, imageUri }: Pick<NewArrival, 'volumeId' | 'madeBy'> & { imageUri: string },
    items: readonly ParcelItem[],
    createdAtMs: number,
  ): Promise<void> {
    return this.#turns.take('create', async () => {
      if (this.#volumes.get(volumeId)?.record.madeBy === madeBy) return;
      const arriving = this.#arriving.get(volumeId);
      if (arriving?.arrival.madeBy !== madeBy || arriving.answer.imageUri !== imageUri) {
        const text = `The copy of volume ${volumeId} was lost with a restart of this storage node. Move it again.`;
        throw new TidemarkError('volume-not-found', text);
      }
      try {
        this.#volumes.set(volumeId, await arriving.accept(items, createdAtMs));
        this.#arriving.delete(volumeId);
      } catch (error) {
        await this.#discard(arriving);
        throw error;
      }
    });
  }

  /** What that run has brought goes, unless it was opened. Good to repeat. */
  discardArrival(volumeId: string, madeBy: string): Promise<void> {
    return this.#delete(volumeId, record => record.madeBy === madeBy && record.state === 'arrived', madeBy);
  }

  /** Nothing of it is left: also where that fails, to be removed by the next start. */
  async #discard(arriving: ArrivingVolume): Promise<void> {
    this.#arriving.delete(arriving.arrival.volumeId);
    await arriving.discard();
  }

  /** Good to repeat: a volume that is not there is gone already. With `madeBy`: where that run made it. */
  delete(volumeId: string, madeBy?: string): Promise<void> {
    return this.#delete(volumeId, record => madeBy === undefined || record.madeBy === madeBy, madeBy);
  }

  async #delete(volumeId: string, isMeant: IsMeant, madeBy: string | undefined): Promise<void> {
    checkId(volumeId, 'volume');
    const there = this.#volumes.get(volumeId);
    // In its turn a volume that is in use is refused.
    if (there !== undefined && isMeant(there.record)) await there.prepareDelete().catch(() => undefined);
    return this.#turns.take(volumeId, async () => {
      const volume = this.#volumes.get(volumeId);
      if (volume === undefined) return this.#deleteUnopened(volumeId, isMeant, madeBy);
      if (!isMeant(volume.record)) return;
      await volume.delete();
      this.#volumes.delete(volumeId);
    });
  }

  /** One that could not be opened must not come back with the next start. Not while one is being made. */
  #deleteUnopened(volumeId: string, isMeant: IsMeant, madeBy: string | undefined): Promise<void> {
    return this.#turns.take('create', async () => {
      if (this.#volumes.has(volumeId)) return;
      const arriving = this.#arriving.get(volumeId);
      if (arriving !== undefined) {
        if (madeBy === undefined || arriving.arrival.madeBy === madeBy) await this.#discard(arriving);
        return;
      }
      const { store } = this.#host;
      const layout = new VolumeLayout(volumeId);
      if (madeBy !== undefined) {
        // One whose record cannot be read may be anybody's.
        const record = await store.read(layout.record, volumeSchema).catch(() => undefined);
        if (record === undefined || !isMeant(record)) return;
      }
      await removeVolumeFolder(store, layout);
      this.#unopened.delete(volumeId);
    });
  }

  #checkFree({ volumeId, name }: Pick<CreateVolume, 'volumeId' | 'name'>): void {
    if (this.#volumes.has(volumeId) || this.#arriving.has(volumeId)) {
      throw new TidemarkError('volume-name-taken', `Volume ${volumeId} exists already. Use another id.`);
    }
    if (this.#unopened.has(volumeId)) {
      const text =
        `Volume ${volumeId} exists already, and could not be opened at the start: see the log. ` +
        'Use another id, or delete it first.';
      throw new TidemarkError('volume-name-taken', text);
    }
    const arriving = [...this.#arriving.values()].map(({ arrival }) => arrival);
    for (const record of [...this.all().map(volume => volume.record), ...arriving]) {
      if (record.name !== name) continue;
      throw new TidemarkError(
        'volume-name-taken',
        `Volume name '${name}' is taken by ${record.volumeId} on this storage node. Choose another name.`,
      );
    }
  }
}

function recordLost(folder: string): Error {
  return new Error(
    `Its record 'volume.json' is missing in ${folder}. Nothing was removed: put the record back from a copy and ` +
      'restart the storage node, or copy the images away and delete the volume.',
  );
}

function checkNew(
  request: Pick<CreateVolume, 'volumeId' | 'name' | 'sizeBytes' | 'format'>,
): 'raw' | 'qcow2' {
  const { format } = request;
  checkId(request.volumeId, 'volume');
  checkName(request.name);
  checkSize(request);
  if (format === 'raw' || format === 'qcow2') return format;
  throw new TidemarkError('invalid-request', `A volume's format is 'raw' or 'qcow2', not '${format}'.`);
}

function checkName(name: string): void {
  if (name.length > 0 && name.length <= NAME_LENGTH_MAX) return;
  throw new TidemarkError(
    'invalid-name',
    `A volume's name has 1 to ${NAME_LENGTH_MAX} characters, not ${name.length}.`,
  );
}

function checkSize({ name, sizeBytes }: Pick<CreateVolume, 'name' | 'sizeBytes'>): void {
  if (sizeBytes >= SECTOR_BYTES && sizeBytes <= IMAGE_BYTES_MAX && sizeBytes % SECTOR_BYTES === 0) return;
  throw new TidemarkError(
    'invalid-volume-size',
    `Volume '${name}' cannot have ${sizeBytes} bytes: give a multiple of ${SECTOR_BYTES} up to ${IMAGE_BYTES_MAX}.`,
  );
}
