// What keeps a volume's contents or images from being taken for what they will be: a backup that it still reads from,
// and whoever overwrites it at this moment.
import { TidemarkError } from '@tidemark/proto';
import type { VolumeRecord } from './volume-record.ts';

export class VolumeUse {
  /** What changes its contents past the guest, in words. */
  overwriter: string | undefined;
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
    if (this.overwriter === undefined) return;
    const text = `Volume '${this.#record().name}' is overwritten by ${this.overwriter}. Wait for its end.`;
    throw new TidemarkError('volume-busy', text);
  }
}
