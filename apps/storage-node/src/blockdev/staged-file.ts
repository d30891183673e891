// An image file that is made for something which may yet not come about: in its place before anything depends on it,
// and gone again, with what lay there before, when it is taken back.
import { link, open, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { claimFile, couldNotCreate } from './claim-file.ts';

export interface StagedFileOptions {
  readonly path: string;
  /** Unlike any other's: what lies beside the file for a while is named after it. */
  readonly token: string;
  /** Makes the image there, durably. */
  make(path: string): Promise<void>;
}

/** A file in its place that can still be taken back. */
export interface StagedFile {
  /** Forgets what lay there before. */
  keep(): Promise<void>;
  /** Puts back what lay there before, or nothing. */
  takeBack(): Promise<void>;
}

/**
 * Makes the file, durable with its name. What lay there before keeps its bytes for those who have it open. Rejects in
 * QEMU's words with nothing changed.
 */
export async function stageFile({ path: file, token, make }: StagedFileOptions): Promise<StagedFile> {
  const aside = (name: string) => path.join(path.dirname(file), `.${token}.${name}`);
  const [fresh, before] = [aside('new'), aside('old')];
  const replaces = await isReplaceable(file);
  try {
    await make(fresh);
    if (replaces) await link(file, before);
    await rename(fresh, file);
    await syncFolder(file);
  } catch (error) {
    await rm(fresh, { force: true });
    await rm(before, { force: true });
    throw couldNotCreate(file, error);
  }
  return {
    keep: () => rm(before, { force: true }),
    takeBack: () => (replaces ? rename(before, file) : rm(file, { force: true })),
  };
}

/** False where there is nothing yet. Rejects where it is no file, or somebody writes to it or relies on it. */
async function isReplaceable(file: string): Promise<boolean> {
  try {
    const found = await stat(file);
    if (found.isDirectory()) throw Object.assign(new Error('is a folder'), { code: 'EISDIR' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw couldNotCreate(file, error);
  }
  const node = await claimFile(file);
  await node.close();
  return true;
}

async function syncFolder(file: string): Promise<void> {
  const folder = await open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
