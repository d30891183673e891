// What keeps a volume's contents or images from being taken for what they will be: a backup that it still reads from,
// and whoever overwrites it at this moment.
import { TidemarkError } from '@tidemark/proto';
import type { VolumeRecord } from './volume-record.ts';

/** A group of volumes of one instant that is not decided yet. */
export interface GroupHold {
  readonly groupId: string;
  /** In words. */
  readonly title: string;
  readonly checkpointId: string;
}

export class VolumeUse {
  /** While the volume belongs to one. */
  group: GroupHold | undefined;
  /** What changes its contents past the guest, in words. */
  overwriter: string | undefined;
  /** It is copied to another storage node, and goes there as it is. */
  isMoving = false;
  readonly #record: () => VolumeRecord;

  constructor(record: () => VolumeRecord) {
    this.#record = record;
  }

  /** Throws `volume-busy` while its images are not its own, or are about to change. */
  assertStill(): void {
    this.assertNotOverwritten();
    const { name, source } = this.#record();
    if (source === undefined) return;
    const text = `Volume '${name}' still reads from backup ${source.backupId}. Wait until all of it is pulled.`;
    throw new TidemarkError('volume-busy', text);
  }

  /** Throws `volume-busy`. */
  assertNotOverwritten(): void {
    const { name, sealedBy } = this.#record();
    if (this.isMoving || sealedBy !== undefined) {
      const text = `Volume '${name}' is moving to another storage node. Wait for the end of its run, or cancel that.`;
      throw new TidemarkError('volume-busy', text);
    }
    if (this.overwriter === undefined) return;
    const text = `Volume '${name}' is overwritten by ${this.overwriter}. Wait for its end.`;
    throw new TidemarkError('volume-busy', text);
  }

  /** Throws `volume-in-group` where an undecided group would lose that checkpoint; without one: the volume. */
  assertNotOfGroup(checkpointId?: string): void {
    const { group } = this;
    if (group === undefined || (checkpointId ?? group.checkpointId) !== group.checkpointId) return;
    const what = checkpointId === undefined ? '' : `, and so does its checkpoint ${checkpointId}`;
    const text =
      `Volume '${this.#record().name}' belongs to ${group.title}, which is not decided${what}. ` +
      'Wait until it is kept or undone, or undo it.';
    throw new TidemarkError('volume-in-group', text);
  }
}
