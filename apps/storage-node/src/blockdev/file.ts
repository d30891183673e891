// The `file` driver: a file of this machine.
import { EngineError, FileNode } from '@tidemark/engine';
import { z } from 'zod';
import { int64 } from '../qmp/arguments.ts';
import { systemErrorText } from '../qmp/system-error-text.ts';
import { defineDriver, type PreparedReopen } from './blockdev-driver.ts';

const options = z.object({
  filename: z.string(),
  'pr-manager': z.string().optional(),
  locking: z.enum(['auto', 'on', 'off']).optional(),
  aio: z.enum(['threads', 'native', 'io_uring']).optional(),
  'aio-max-batch': int64.optional(),
  'drop-cache': z.boolean().optional(),
  'x-check-cache-dropped': z.boolean().optional(),
});

export const fileDriver = defineDriver({
  name: 'file',
  options,
  children: {},
  permissions: () => ({ uses: 0, shares: 0 }),
  protocol: true,
  strongOptions: ['filename'],
  filename: ({ filename }) => filename,
  async open({ options: { filename, locking }, common, readOnly }) {
    const how = {
      locking: locking === 'off' ? 'off' : 'permissions',
      sharesAll: common.forceShare,
      noFlush: common.cache.noFlush,
      wholeSectors: true,
    } as const;
    try {
      return await FileNode.open(filename, { ...how, readOnly });
    } catch (error) {
      if (!readOnly && common.autoReadOnly && isReadOnlyPlace(error)) {
        return await FileNode.open(filename, { ...how, readOnly: true });
      }
      throw couldNotOpen(filename, error);
    }
  },
  fixedOptions: ['filename', 'pr-manager', 'locking', 'aio', 'aio-max-batch', 'drop-cache'],
  reopen: ({ blockdev, readOnly }) => reopenFile(blockdev.driver as FileNode, readOnly),
});

async function reopenFile(file: FileNode, readOnly: boolean): Promise<PreparedReopen> {
  if (file.readOnly === readOnly) return { commit() {}, abort() {} };
  try {
    return await file.prepareReopen({ readOnly });
  } catch (error) {
    throw couldNotOpen(file.path, error);
  }
}

function isReadOnlyPlace(error: unknown): boolean {
  const errno = error instanceof EngineError ? error.context.errno : undefined;
  return errno === 'EACCES' || errno === 'EROFS';
}

function couldNotOpen(filename: string, error: unknown): unknown {
  if (!(error instanceof EngineError) || error.context.errno === undefined) return error;
  const text = `Could not open '${filename}': ${systemErrorText(error)}`;
  return new EngineError(error.kind, text, { ...error.context, hint: 'Look at the path.' }, error);
}
