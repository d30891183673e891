// A backup that is being written: hidden image, writable export, publication.
//
//   create ─► writable ─► sealed ─► named ─► (manifest written: published)
//                 └──────────┴────────┴─► discarded
// `seal` closes export and image and verifies the image, `name` gives the file its final name. Each step
// that failed can be repeated or be followed by `discard`.
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { type BlockNode, createQcow2, openImage } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { storedBytes } from './disk-space.ts';
import { QuotaNode } from './quota-node.ts';
import { imageFileName, type RepositoryLayout } from './repository-layout.ts';
import type { SpaceBudget } from './space-budget.ts';
import type { StateStore } from './state-store.ts';

/** Room for what an empty image puts down with its first write: refcount block and table. */
const FIRST_WRITE_BYTES = 256 * 1024;
/** Export names nobody guesses: who has the URI may write. */
const EXPORT_NAME_BYTES = 16;

export interface PartialBackupPlan {
  readonly backupId: string;
  readonly volumeId: string;
  readonly sizeBytes: number;
  /** Empty: none. */
  readonly parentBackupId: string;
}

export interface BackupHost {
  readonly store: StateStore;
  readonly exports: NbdExports;
  readonly layout: RepositoryLayout;
  readonly budget: SpaceBudget;
}

export function unguessableName(): string {
  return randomBytes(EXPORT_NAME_BYTES).toString('hex');
}

interface PartialBackupParts {
  readonly node: QuotaNode;
  readonly exportName: string;
  readonly uri: string;
}

export class PartialBackup {
  readonly plan: PartialBackupPlan;
  readonly uri: string;
  readonly #host: BackupHost;
  readonly #exportName: string;
  readonly #node: QuotaNode;
  #state: 'writable' | 'closed' | 'sealed' | 'named' | 'broken' = 'writable';

  private constructor(host: BackupHost, plan: PartialBackupPlan, parts: PartialBackupParts) {
    this.#host = host;
    this.plan = plan;
    this.uri = parts.uri;
    this.#node = parts.node;
    this.#exportName = parts.exportName;
  }

  /** Makes image and export. Rejects with `repository-full` or what the image says; nothing stays then. */
  static async create(host: BackupHost, plan: PartialBackupPlan): Promise<PartialBackup> {
    const { store, layout, budget, exports } = host;
    const path = store.path(layout.partial(plan.backupId));
    let paidBytes = 0;
    let node: QuotaNode | undefined;
    try {
      await createQcow2(path, {
        sizeBytes: plan.sizeBytes,
        ...(plan.parentBackupId !== '' && {
          backing: { path: imageFileName(plan.parentBackupId), format: 'qcow2' },
        }),
      });
      const bytes = (await stat(path)).size + FIRST_WRITE_BYTES;
      if (!budget.tryTake(bytes)) throw noRoom(bytes, budget);
      paidBytes = bytes;
      node = new QuotaNode(await openImage(path, { readOnly: false, format: 'qcow2' }), {
        budget,
        paidBytes,
      });
      const exportName = unguessableName();
      const uri = exports.add({ name: exportName, listed: false, node });
      return new PartialBackup(host, plan, { node, exportName, uri });
    } catch (error) {
      await node?.close().catch(() => undefined);
      budget.giveBack(paidBytes);
      await store.remove(layout.partial(plan.backupId));
      throw error;
    }
  }

  /** A repeated request for the same backup. */
  matches(plan: PartialBackupPlan): boolean {
    return (
      plan.volumeId === this.plan.volumeId &&
      plan.sizeBytes === this.plan.sizeBytes &&
      plan.parentBackupId === this.plan.parentBackupId
    );
  }

  get isWritable(): boolean {
    return this.#state === 'writable';
  }

  /** Ends the export, closes the image durably, and makes sure that it opens through its whole chain. */
  async seal(): Promise<void> {
    await this.#closeImage();
    if (this.#state === 'broken') {
      throw new TidemarkError(
        'image-invalid',
        `Backup ${this.plan.backupId} could not be made durable. Discard it and run the backup again.`,
      );
    }
    if (this.#state !== 'closed') return;
    const path = this.#host.store.path(this.#host.layout.partial(this.plan.backupId));
    await verifyImage(path, this.plan);
    this.#state = 'sealed';
  }

  /** Gives the sealed image its final name, durably. Returns the bytes that it takes. */
  async name(): Promise<number> {
    const { store, layout } = this.#host;
    const final = layout.image(this.plan.backupId);
    if (this.#state === 'sealed') {
      await store.publishFile(layout.partial(this.plan.backupId), final);
      this.#state = 'named';
    }
    return storedBytes(store.path(final));
  }

  /** The budget counts what the published image takes instead of the bound from above. */
  settle(bytes: number): void {
    this.#host.budget.giveBack(this.#node.paidBytes);
    this.#host.budget.take(bytes);
  }

  /** Removes whatever is there. */
  async discard(): Promise<void> {
    const { store, layout, budget } = this.#host;
    // The file goes: that its last metadata cannot be written any more does not matter.
    await this.#closeImage().catch(() => undefined);
    await store.remove(layout.partial(this.plan.backupId));
    await store.remove(layout.image(this.plan.backupId));
    budget.giveBack(this.#node.paidBytes);
  }

  async #closeImage(): Promise<void> {
    if (this.#state !== 'writable') return;
    await this.#host.exports.remove(this.#exportName, { mode: 'hard' });
    // Whatever fails from here on, the image is no longer one that can be written to.
    this.#state = 'broken';
    try {
      await this.#node.flush();
    } finally {
      await this.#node.close();
    }
    this.#state = 'closed';
  }
}

function noRoom(bytes: number, budget: SpaceBudget): TidemarkError {
  return new TidemarkError(
    'repository-full',
    `A new backup needs at least ${bytes} bytes, but ${budget.leftBytes} of the repository's ` +
      `${budget.limitBytes} are left. Remove backups or raise the limit.`,
  );
}

async function verifyImage(path: string, plan: PartialBackupPlan): Promise<void> {
  let image: BlockNode;
  try {
    image = await openImage(path, { readOnly: true, format: 'qcow2' });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new TidemarkError(
      'image-invalid',
      `Backup ${plan.backupId} was written but does not open (${text}). Discard it and run the backup again.`,
      error,
    );
  }
  const { sizeBytes } = image;
  await image.close();
  if (sizeBytes === plan.sizeBytes) return;
  throw new TidemarkError(
    'image-invalid',
    `Backup ${plan.backupId} has ${sizeBytes} bytes instead of ${plan.sizeBytes}. ` +
      'Discard it and run the backup again.',
  );
}
