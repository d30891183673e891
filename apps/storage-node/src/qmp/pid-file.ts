// The file that tells scripts whom to stop. Its lock keeps a second daemon off, and ends with the process.
import { type FileHandle, open, rm } from 'node:fs/promises';
import { lockSync } from '@tidemark/engine';
import { CommandLineError } from './command-line.ts';
import { systemErrorText } from './system-error-text.ts';

export class PidFile {
  readonly #path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  /** Rejects with a `CommandLineError` when it cannot be written, or when another process has it. */
  static async create(path: string, pid: number): Promise<PidFile> {
    const handle = await openOrCreate(path);
    try {
      if (!lockSync(handle.fd, 'exclusive')) {
        throw new CommandLineError(
          `cannot create PID file: Cannot lock pid file '${path}': another daemon has it`,
        );
      }
      await handle.truncate();
      await handle.write(`${pid}\n`);
      return new PidFile(path, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
    await this.#handle.close();
  }
}

async function openOrCreate(path: string): Promise<FileHandle> {
  try {
    // `a`: what another daemon has written stays until the lock is ours.
    return await open(path, 'a', 0o600);
  } catch (cause) {
    const text = `cannot create PID file: Could not create '${path}': ${systemErrorText(cause)}`;
    throw new CommandLineError(text, { cause });
  }
}
