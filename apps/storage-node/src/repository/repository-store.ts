// All repositories of this storage node, one folder each.
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { checkId } from '../host/plain-id.ts';
import { StateFileError, type StateStore } from '../host/state-store.ts';
import { Turns } from '../host/turns.ts';
import { NAME_LENGTH_MAX } from '../limits.ts';
import { type Compression, type RepositoryRecord, repositorySchema } from './manifest.ts';
import { Repository } from './repository.ts';
import { REPOSITORIES_FOLDER, RepositoryLayout } from './repository-layout.ts';
import type { RepositoryProblem } from './repository-scan.ts';
import { SharedSpace } from './space-reservation.ts';

interface NewRepository {
  readonly repositoryId: string;
  readonly name: string;
  /** 0: none. */
  readonly limitBytes: number;
  readonly compression: Compression;
}

interface RepositoryStoreOptions {
  readonly store: StateStore;
  readonly exports: NbdExports;
  readonly now: () => number;
  /** Told of what a person has to look at. */
  readonly report: (problem: RepositoryProblem) => void;
}

export class RepositoryStore {
  readonly #options: RepositoryStoreOptions;
  readonly #repositories = new Map<string, Repository>();
  readonly #turns = new Turns();
  readonly #shared = new SharedSpace();

  constructor(options: RepositoryStoreOptions) {
    this.#options = options;
  }

  /** Reads all repositories and removes what was left unfinished. */
  async load(): Promise<void> {
    const { store } = this.#options;
    for (const repositoryId of await store.list(REPOSITORIES_FOLDER)) {
      const record = await this.#readRecord(new RepositoryLayout(repositoryId));
      // A folder without a record is a creation that was interrupted: it will be repeated.
      if (record !== undefined) await this.#loadOrReport(record);
    }
  }

  /** A disk that fails below one repository must not keep the others, and the guests, from being served. */
  async #loadOrReport(record: RepositoryRecord): Promise<void> {
    try {
      this.#repositories.set(record.repositoryId, await this.#load(record));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#options.report({
        repository: new RepositoryLayout(record.repositoryId).folder,
        what: 'unreadable',
        message: `Repository '${record.name}' cannot be read (${reason}). Mend its disk or files, then start again.`,
      });
    }
  }

  /** Ends every export. */
  async close(): Promise<void> {
    await this.#turns.idle();
    for (const repository of this.#repositories.values()) await repository.close();
    this.#repositories.clear();
  }

  get count(): number {
    return this.#repositories.size;
  }

  list(): Repository[] {
    return [...this.#repositories.values()].sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /** Throws `repository-not-found`. */
  get(repositoryId: string): Repository {
    const repository = this.#repositories.get(repositoryId);
    if (repository !== undefined) return repository;
    throw new TidemarkError(
      'repository-not-found',
      `There is no repository ${repositoryId} on this storage node. List them to see which there are.`,
    );
  }

  /** Good to repeat with the same id and settings. */
  create(request: NewRepository): Promise<Repository> {
    checkId(request.repositoryId, 'repository');
    checkName(request.name);
    checkLimit(request.limitBytes);
    return this.#turns.take('create', async () => {
      const known = this.#repositories.get(request.repositoryId);
      this.#checkNameFree(request);
      if (known !== undefined) return this.#again(known, request);
      const { store, now } = this.#options;
      const layout = new RepositoryLayout(request.repositoryId);
      const record: RepositoryRecord = { version: 1, ...request, createdAtMs: now() };
      await store.makeFolder(layout.backups);
      await store.write(layout.record, record);
      const repository = await this.#load(record);
      this.#repositories.set(record.repositoryId, repository);
      return repository;
    });
  }

  /** Removes the record and the folder. Good to repeat. Throws `repository-in-use` where it is not empty. */
  delete(repositoryId: string): Promise<void> {
    checkId(repositoryId, 'repository');
    return this.#turns.take('create', async () => {
      const { store } = this.#options;
      const layout = new RepositoryLayout(repositoryId);
      const known = this.#repositories.get(repositoryId);
      if (known === undefined) {
        // A folder without a record is a deletion that was interrupted; one with a damaged record is left alone.
        const record = await this.#readRecord(layout);
        if (record === undefined) return this.#removeRest(layout);
        throw new TidemarkError(
          'repository-in-use',
          `Repository '${record.name}' is there, but could not be read when the storage node started, so that nobody ` +
            'knows what is in it. Mend its disk or files, and start the storage node again.',
        );
      }
      await known.assertEmpty();
      await known.close();
      this.#repositories.delete(repositoryId);
      await store.remove(layout.record);
      await store.removeFolder(layout.folder);
    });
  }

  async #removeRest(layout: RepositoryLayout): Promise<void> {
    const { store } = this.#options;
    const isLeft = (await store.list(layout.folder)).every(
      name => name === 'backups' || name === 'exports.json',
    );
    if (isLeft && (await store.list(layout.backups)).length === 0) await store.removeFolder(layout.folder);
  }

  /** A repository that cannot be read must not keep a storage node from serving its guests. */
  async #readRecord(layout: RepositoryLayout): Promise<RepositoryRecord | undefined> {
    const { store, report } = this.#options;
    try {
      return await store.read(layout.record, repositorySchema);
    } catch (error) {
      if (!(error instanceof StateFileError)) throw error;
      report({ repository: layout.folder, what: 'record-damaged', message: error.message });
      return undefined;
    }
  }

  #load(record: RepositoryRecord): Promise<Repository> {
    return Repository.load(record, { ...this.#options, shared: this.#shared });
  }

  #again(known: Repository, request: NewRepository): Repository {
    const { record } = known;
    const { name, limitBytes, compression } = record;
    if (name === request.name && limitBytes === request.limitBytes && compression === request.compression) {
      return known;
    }
    throw new TidemarkError(
      'repository-name-taken',
      `Repository ${record.repositoryId} exists already as '${name}' with a limit of ` +
        `${limitBytes} bytes and compression ${compression}. Use it as it is, or create one with another id.`,
    );
  }

  #checkNameFree({ repositoryId, name }: { repositoryId: string; name: string }): void {
    for (const { record } of this.#repositories.values()) {
      if (record.name !== name || record.repositoryId === repositoryId) continue;
      throw new TidemarkError(
        'repository-name-taken',
        `Repository name '${name}' is taken by ${record.repositoryId} here. Choose another name.`,
      );
    }
  }
}

function checkName(name: string): void {
  if (name.length > 0 && name.length <= NAME_LENGTH_MAX) return;
  throw new TidemarkError(
    'invalid-name',
    `A repository's name has 1 to ${NAME_LENGTH_MAX} characters, not ${name.length}.`,
  );
}

function checkLimit(limitBytes: number): void {
  if (Number.isSafeInteger(limitBytes) && limitBytes >= 0) return;
  throw new TidemarkError(
    'invalid-request',
    `${limitBytes} is not a limit in bytes; give 0 for none, or a whole number above.`,
  );
}
