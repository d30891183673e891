// Published backups that are being read: for each run and backup one read-only export over the whole chain, and one
// of the chain's checksums. A durable one keeps its names over restarts, written down in the repository's folder.
import { type BlockNode, FileNode, openImage } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { z } from 'zod';
import { StateFileError } from '../host/state-store.ts';
import { BACKUPS_OPEN_MAX } from '../limits.ts';
import { type ChainMember, ChainSums } from '../sums/chain-sums.ts';
import { recordsOf } from '../sums/sums-format.ts';
import { SumsNode } from '../sums/sums-node.ts';
import { SumsReader } from '../sums/sums-reader.ts';
import { VerifiedNode } from '../sums/verified-node.ts';
import type { Manifest } from './manifest.ts';
import type { BackupHost } from './partial-backup.ts';
import { unguessableName } from './partial-file.ts';
import { openLayer } from './publication.ts';

const entrySchema = z.strictObject({
  backupId: z.string(),
  runId: z.string(),
  verified: z.boolean(),
  imageName: z.string(),
  sumsName: z.string(),
});
const fileSchema = z.strictObject({ version: z.literal(1), exports: z.array(entrySchema) });

type DurableEntry = z.infer<typeof entrySchema>;

export interface BackupEndpoint {
  readonly uri: string;
  readonly sizeBytes: number;
  /** Of the checksums. */
  readonly sumsUri: string;
}

export interface OpenRequest {
  readonly backupId: string;
  readonly runId: string;
  /** What does not have its checksum fails to be read. */
  readonly verified: boolean;
  readonly durable: boolean;
  /** Only what the backup itself holds, unverified, with its own checksums. Never durable. */
  readonly own?: boolean;
}

export interface OpenSummary {
  readonly backupId: string;
  readonly runId: string;
  readonly durable: boolean;
}

interface OpenBackup extends OpenRequest {
  readonly endpoint: BackupEndpoint;
  readonly names: { readonly imageName: string; readonly sumsName: string };
  close(): Promise<void>;
}

type Host = Pick<BackupHost, 'store' | 'exports' | 'layout'>;

export class OpenBackups {
  readonly #host: Host;
  /** By `backup run`; callers take turns per backup. */
  readonly #open = new Map<string, OpenBackup>();
  /** Durable ones that could not be opened at the start: their files may come back. */
  #waiting: DurableEntry[] = [];
  /** Whether the file names what is open. */
  #isSaved = true;

  constructor(host: Host) {
    this.#host = host;
  }

  /**
   * Opens what was left open by an earlier life of the process, under the names of then. `chainOf` throws for a
   * backup that is not there; `report` is told of what cannot be opened.
   */
  async load(
    chainOf: (backupId: string) => readonly Manifest[],
    report: (message: string) => void,
  ): Promise<void> {
    this.#waiting = await this.#read(report);
    for (const { backupId, runId } of this.waiting) {
      await this.reopen({ backupId, runId }, chainOf, report);
    }
  }

  /** Durable ones that could not be opened so far. */
  get waiting(): readonly Pick<OpenRequest, 'backupId' | 'runId'>[] {
    return [...this.#waiting];
  }

  /** One that waits, under its names of before. Good to repeat; `report` is told where it goes on waiting. */
  async reopen(
    options: { backupId: string; runId: string },
    chainOf: (backupId: string) => readonly Manifest[],
    report: (message: string) => void,
  ): Promise<void> {
    const entry = this.#waiting.find(one => keyOf(one) === keyOf(options));
    if (entry === undefined) return;
    try {
      await this.#openExports({ ...entry, durable: true }, chainOf(entry.backupId), entry);
      this.#waiting = this.#waiting.filter(one => one !== entry);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      report(`Backup ${entry.backupId} was open for ${entry.runId} and cannot be opened again: ${text}`);
    }
  }

  /** A file that cannot be read is put aside: who reads backups has lost them, and nobody else needs it. */
  async #read(report: (message: string) => void): Promise<DurableEntry[]> {
    const { store, layout } = this.#host;
    try {
      return (await store.read(this.#fileName, fileSchema))?.exports ?? [];
    } catch (error) {
      if (!(error instanceof StateFileError)) throw error;
      const aside = `${layout.folder}/exports.damaged.json`;
      await store.publishFile(this.#fileName, aside);
      report(`${error.message} It is ${aside} now; exports that outlive restarts have to be opened again.`);
      return [];
    }
  }

  /** Good to repeat: a run is answered the endpoint it has. `chain`: newest first. */
  async open(request: OpenRequest, chain: readonly Manifest[]): Promise<BackupEndpoint> {
    const key = keyOf(request);
    const known = this.#open.get(key);
    if (known !== undefined) return known.endpoint;
    if (this.#open.size >= BACKUPS_OPEN_MAX) {
      throw new TidemarkError(
        'backup-not-usable',
        `${this.#open.size} backups are open here, the most there may be. Wait for a restore to end.`,
      );
    }
    if (request.own && request.durable) throw neverDurable();
    const waiting = this.#waiting.find(entry => keyOf(entry) === key);
    const names = waiting ?? { imageName: unguessableName(), sumsName: unguessableName() };
    const { endpoint } = await this.#openExports(request, chain, names);
    this.#waiting = this.#waiting.filter(entry => entry !== waiting);
    if (!request.durable) return endpoint;
    try {
      await this.#save();
    } catch (error) {
      await this.#drop(key);
      throw error;
    }
    return endpoint;
  }

  /** Whether anybody reads the backup itself; those who read what stands on it do not count. */
  isOpen(backupId: string): boolean {
    return this.list().some(open => open.backupId === backupId);
  }

  /** Good to repeat. Clients still connected are dropped. */
  async close(options: { backupId: string; runId: string }): Promise<void> {
    const key = keyOf(options);
    const before = this.#durable.length;
    this.#waiting = this.#waiting.filter(entry => keyOf(entry) !== key);
    await this.#drop(key);
    if (this.#durable.length < before) this.#isSaved = false;
    // Also what an earlier call could not save.
    if (!this.#isSaved) await this.#save();
  }

  /** Ends all exports; durable ones come back with the next start. */
  async closeAll(): Promise<void> {
    for (const key of [...this.#open.keys()]) await this.#drop(key);
  }

  list(): OpenSummary[] {
    const waiting = this.#waiting.map(entry => ({ ...entry, durable: true }));
    return [...this.#open.values(), ...waiting].map(({ backupId, runId, durable }) => ({
      backupId,
      runId,
      durable,
    }));
  }

  get #fileName(): string {
    return `${this.#host.layout.folder}/exports.json`;
  }

  get #durable(): DurableEntry[] {
    const open = [...this.#open.values()]
      .filter(({ durable }) => durable)
      .map(({ backupId, runId, verified, names }) => ({ backupId, runId, verified, ...names }));
    return [...open, ...this.#waiting];
  }

  async #save(): Promise<void> {
    this.#isSaved = false;
    await this.#host.store.write(this.#fileName, { version: 1, exports: this.#durable });
    this.#isSaved = true;
  }

  async #drop(key: string): Promise<void> {
    const open = this.#open.get(key);
    if (open === undefined) return;
    this.#open.delete(key);
    await open.close();
  }

  async #openExports(
    request: OpenRequest,
    chain: readonly Manifest[],
    { imageName, sumsName }: { imageName: string; sumsName: string },
  ): Promise<OpenBackup> {
    const { exports } = this.#host;
    const { image, sums, close } = await this.#openFiles(request, request.own ? chain.slice(0, 1) : chain);
    const node = request.verified && !request.own ? new VerifiedNode(image, sums.source) : image;
    exports.add({ name: imageName, listed: false, node, readOnly: true });
    exports.add({ name: sumsName, listed: false, node: sums.node, readOnly: true });
    const open: OpenBackup = {
      ...request,
      names: { imageName, sumsName },
      // The port may not be known yet: durable exports are there before anybody may connect.
      get endpoint() {
        return { uri: exports.uri(imageName), sizeBytes: image.sizeBytes, sumsUri: exports.uri(sumsName) };
      },
      close: async () => {
        await exports.remove(imageName, { mode: 'hard' });
        await exports.remove(sumsName, { mode: 'hard' });
        await close();
      },
    };
    this.#open.set(keyOf(request), open);
    return open;
  }

  /** As the file has them, holes and all. Rejects with `backup-not-usable` where there are none. */
  async #openOwnSums(
    { backupId, sizeBytes, sums }: Manifest,
    keep: <T extends BlockNode>(opening: Promise<T>) => Promise<T>,
  ) {
    const { store, layout } = this.#host;
    if (sums === null) throw withoutSums(backupId);
    const node = await keep(openImage(store.path(layout.sums(backupId)), { readOnly: true, format: 'raw' }));
    return { source: new SumsReader(node, recordsOf(sizeBytes)), node };
  }

  async #openFiles({ backupId, own }: OpenRequest, chain: readonly Manifest[]) {
    const { store, layout } = this.#host;
    const held = new AsyncDisposableStack();
    const keep = async <T extends BlockNode>(opening: Promise<T>) =>
      held.adopt(await opening, node => node.close());
    try {
      const path = store.path(layout.image(backupId));
      const image = await keep<BlockNode>(
        own ? openLayer(path) : openImage(path, { readOnly: true, format: 'qcow2' }),
      );
      const members: ChainMember[] = [];
      if (own)
        return { image, sums: await this.#openOwnSums(chain[0]!, keep), close: () => held.disposeAsync() };
      for (const { backupId: id, sizeBytes, sums } of chain) {
        const file = sums && (await keep(FileNode.open(store.path(layout.sums(id)), { readOnly: true })));
        const records = file ? new SumsReader(file, recordsOf(sizeBytes)) : undefined;
        members.push({ sizeBytes, records });
      }
      // Of a parent whose manifest is gone nothing is known.
      const lowest = chain.at(-1)!;
      if (lowest.parentBackupId !== '') members.push({ sizeBytes: lowest.sizeBytes, records: undefined });
      const source = new ChainSums(members);
      const sums = { source, node: new SumsNode(source, image.sizeBytes) };
      return { image, sums, close: () => held.disposeAsync() };
    } catch (error) {
      await held.disposeAsync();
      if (error instanceof TidemarkError) throw error;
      const text = error instanceof Error ? error.message : String(error);
      throw new TidemarkError(
        'backup-not-usable',
        `Backup ${backupId} cannot be opened: ${text}. Put its files back, or use another backup.`,
        error,
      );
    }
  }
}

function withoutSums(backupId: string): TidemarkError {
  return new TidemarkError(
    'backup-not-usable',
    `Backup ${backupId} has no checksums: nobody could tell whether a replica is the same. Make a full backup, and ` +
      'replicate that one.',
  );
}

function neverDurable(): TidemarkError {
  const text =
    'What a backup itself holds is exported until the run has ended. Ask for it without `durable`.';
  return new TidemarkError('invalid-request', text);
}

function keyOf({ backupId, runId }: { backupId: string; runId: string }): string {
  return `${backupId} ${runId}`;
}
