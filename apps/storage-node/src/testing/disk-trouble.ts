// A disk on which this process cannot store its documents, or only slowly.
import { type FileHandle, open, readlink } from 'node:fs/promises';
import { onTestFinished, vi } from 'vitest';

/** Every open file of this process has these methods. */
async function fileMethods(): Promise<FileHandle> {
  const handle = await open('/', 'r');
  await handle.close();
  return Object.getPrototypeOf(handle) as FileHandle;
}

/** Calls `before` ahead of each fsync of a file until that is restored, at the latest at the test's end. */
async function troubleSync(before: (handle: FileHandle) => Promise<void>) {
  const methods = await fileMethods();
  const { sync } = methods;
  const trouble = vi.spyOn(methods, 'sync').mockImplementation(async function (this: FileHandle) {
    await before(this);
    return sync.call(this);
  });
  onTestFinished(() => trouble.mockRestore());
  return trouble;
}

/** Only documents of at most that many bytes can be stored: what a lock takes, but no volume's record. */
const ROOM_BYTES = 256;

export function fillDisk() {
  return troubleSync(async handle => {
    const stat = await handle.stat();
    if (stat.isDirectory() || stat.size <= ROOM_BYTES) return;
    throw Object.assign(new Error('ENOSPC: no space left on device, fsync'), { code: 'ENOSPC' });
  });
}

/** Each document takes a while to be stored. */
export function slowDisk() {
  return troubleSync(() => new Promise(resolve => setTimeout(resolve, 100)));
}

/** Of the fsyncs after that of a file whose name has `after` in it, the nth fails; one document is written twice. */
export function failSync({ after, nth }: { after: string; nth: number }) {
  let seen = -1;
  return troubleSync(async handle => {
    const name = await readlink(`/proc/self/fd/${handle.fd}`);
    if (seen < 0 && name.includes(after)) seen = 0;
    else if (seen >= 0) seen++;
    if (seen === nth) throw Object.assign(new Error('EIO: i/o error, fsync'), { code: 'EIO' });
  });
}
