// The write-intent log of one volume at work: its file, and the gate before the volume's images.
import type { Anchor } from '@tidemark/engine';
import type { StateStore } from '../host/state-store.ts';
import { INTENT_REGION_BYTES_MIN, INTENT_REGIONS_AHEAD, INTENT_REGIONS_MAX } from '../limits.ts';
import { IntentFile } from './intent-file.ts';
import type { IntentScope, ReadLog } from './intent-slots.ts';
import { WriteIntents } from './write-intents.ts';

export interface IntentPlace {
  readonly store: StateStore;
  /** Of the log's file. */
  readonly name: string;
  readonly distrust: (cause: unknown) => Promise<void>;
}

export class IntentTracking {
  readonly intents: WriteIntents;
  readonly #file: IntentFile;

  private constructor(file: IntentFile, distrust: IntentPlace['distrust']) {
    this.#file = file;
    this.intents = new WriteIntents({
      scope: file.scope,
      regionsAhead: INTENT_REGIONS_AHEAD,
      write: regions => file.write(regions),
      distrust,
    });
  }

  /** With a new, empty log in the place of whatever is there. */
  static async begin(place: IntentPlace, scope: IntentScope): Promise<IntentTracking> {
    return new IntentTracking(await IntentFile.create(place.store, place.name, scope), place.distrust);
  }

  /** With the log that was read, whose regions are in the stored bitmap by now: it is empty afterwards. */
  static async resume(place: IntentPlace, log: ReadLog): Promise<IntentTracking> {
    const tracking = new IntentTracking(await IntentFile.open(place.store, place.name, log), place.distrust);
    try {
      await tracking.#file.clear();
    } catch (error) {
      await tracking.#file.close();
      throw error;
    }
    return tracking;
  }

  /** `clear`: all bits are on the disk, and no change comes any more. */
  async end(anchor: Anchor, { clear }: { clear: boolean }): Promise<void> {
    if (anchor.gate === this.intents) anchor.gate = undefined;
    await this.intents.idle();
    try {
      if (clear) await this.#file.clear();
    } finally {
      await this.#file.close();
    }
  }
}

/** Small enough to add little after a crash, large enough that there are not too many. */
export function intentRegionBytes(sizeBytes: number, leastBytes: number = INTENT_REGION_BYTES_MIN): number {
  let regionBytes = leastBytes;
  while (sizeBytes / regionBytes > INTENT_REGIONS_MAX) regionBytes *= 2;
  return regionBytes;
}
