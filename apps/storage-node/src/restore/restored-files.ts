// Which restore made which file, until its run has taken it over: a run that fails or is cancelled after the file got
// its name takes it back, whatever has been killed in between, and no other run's.
//
//   restores/NAME                  a restored file
//   restores/.partial-NAME         one that is being written
//   restores/.claim-RESTORE.json   the restore that makes NAME has not been taken over yet
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { isPlainId } from '../host/plain-id.ts';
import type { StateStore } from '../host/state-store.ts';

const FOLDER = 'restores';
const PARTIAL = '.partial-';
const CLAIM = /^\.claim-(.+)\.json$/;

const claimSchema = z.strictObject({ version: z.literal(1), name: z.string() });

export class RestoredFiles {
  readonly #store: StateStore;

  constructor(store: StateStore) {
    this.#store = store;
  }

  file(name: string): string {
    return `${FOLDER}/${name}`;
  }

  partial(name: string): string {
    return `${FOLDER}/${PARTIAL}${name}`;
  }

  /** Removes what an earlier life of the process was writing, and claims without a file. */
  async sweep(): Promise<void> {
    const there = await this.#store.list(FOLDER);
    for (const entry of there) {
      if (entry.startsWith(PARTIAL)) await this.#store.remove(`${FOLDER}/${entry}`);
      const restoreId = CLAIM.exec(entry)?.[1];
      if (restoreId === undefined) continue;
      const name = await this.#claimed(restoreId);
      if (name === undefined || !there.includes(name)) await this.takeOver(restoreId);
    }
  }

  /** The name is the restore's from now on; a file that it made before goes. Throws `file-exists`. */
  async claim(restoreId: string, name: string): Promise<void> {
    if ((await this.#claimed(restoreId)) === name) await this.withdraw(restoreId);
    const there = await this.#store.list(FOLDER);
    if (there.includes(name) || there.includes(`${PARTIAL}${name}`)) {
      throw new TidemarkError(
        'file-exists',
        `${this.#store.path(this.file(name))} exists already or is being written. ` +
          'Choose another name or remove it.',
      );
    }
    await this.#store.write(claimOf(restoreId), { version: 1, name });
  }

  /** The file is as the restore was to make it, and stays. Good to repeat. */
  async takeOver(restoreId: string): Promise<void> {
    if (isPlainId(restoreId)) await this.#store.remove(claimOf(restoreId));
  }

  /** Afterwards nothing of the restore is left, unless it was taken over. Good to repeat. */
  async withdraw(restoreId: string): Promise<void> {
    const name = await this.#claimed(restoreId);
    if (name === undefined) return;
    await this.#store.remove(this.partial(name));
    await this.#store.remove(this.file(name));
    await this.takeOver(restoreId);
  }

  async #claimed(restoreId: string): Promise<string | undefined> {
    if (!isPlainId(restoreId)) return undefined;
    return (await this.#store.read(claimOf(restoreId), claimSchema))?.name;
  }
}

function claimOf(restoreId: string): string {
  return `${FOLDER}/.claim-${restoreId}.json`;
}
