// Published backups that runs are reading: one read-only export a run and backup, over the whole chain.
import { openImage } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { BACKUPS_OPEN_MAX } from '../limits.ts';
import { unguessableName } from './partial-file.ts';

interface OpenBackup {
  readonly backupId: string;
  readonly exportName: string;
  readonly endpoint: BackupEndpoint;
  close(): Promise<void>;
}

export interface BackupEndpoint {
  readonly uri: string;
  readonly sizeBytes: number;
  /** Of the checksums. */
  readonly sumsUri: string;
}

export class OpenBackups {
  readonly #exports: NbdExports;
  /** By `backup run`; callers take turns per backup. */
  readonly #open = new Map<string, OpenBackup>();

  constructor(exports: NbdExports) {
    this.#exports = exports;
  }

  /** Good to repeat: a run is answered the endpoint it has. */
  async open(options: { path: string; backupId: string; runId: string }): Promise<BackupEndpoint> {
    const key = `${options.backupId} ${options.runId}`;
    const known = this.#open.get(key);
    if (known !== undefined) return known.endpoint;
    if (this.#open.size >= BACKUPS_OPEN_MAX) {
      throw new TidemarkError(
        'backup-not-usable',
        `${this.#open.size} backups are open here, the most there may be. Wait for a restore to end.`,
      );
    }
    const image = await openImage(options.path, { readOnly: true, format: 'qcow2' }).catch(
      (error: unknown) => {
        const text = error instanceof Error ? error.message : String(error);
        throw new TidemarkError(
          'backup-not-usable',
          `Backup ${options.backupId} cannot be opened: ${text}. Put its files back, or use another backup.`,
          error,
        );
      },
    );
    const exportName = unguessableName();
    const uri = this.#exports.add({ name: exportName, listed: false, node: image, readOnly: true });
    const endpoint = { uri, sizeBytes: image.sizeBytes, sumsUri: '' };
    this.#open.set(key, { backupId: options.backupId, exportName, endpoint, close: () => image.close() });
    return endpoint;
  }

  /** Good to repeat. Clients still connected are dropped. */
  async close(options: { backupId: string; runId: string }): Promise<void> {
    const key = `${options.backupId} ${options.runId}`;
    const open = this.#open.get(key);
    if (open === undefined) return;
    this.#open.delete(key);
    await this.#exports.remove(open.exportName, { mode: 'hard' });
    await open.close();
  }

  async closeAll(): Promise<void> {
    for (const [key, open] of [...this.#open]) {
      this.#open.delete(key);
      await this.#exports.remove(open.exportName, { mode: 'hard' });
      await open.close();
    }
  }
}
