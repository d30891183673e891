// The `file` driver: a file of this machine.
import { EngineError, FileNode } from '@tidemark/engine';
import { z } from 'zod';
import { int64 } from '../qmp/arguments.ts';
import { systemErrorText } from '../qmp/system-error-text.ts';
import { defineDriver, type PreparedReopen } from './blockdev-driver.ts';
import type { CommonOptions } from './options.ts';

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
  async open({ options: { filename, locking, aio }, common, readOnly }) {
    if (aio === 'native' && !common.cache.direct) throw nativeNeedsDirect();
    const how = {
      locking: locking === 'off' ? 'off' : 'permissions',
      sharesAll: common.forceShare,
      ...common.cache,
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
  reopen: ({ blockdev, readOnly, common }) =>
    reopenFile(blockdev.driver as FileNode, { readOnly, ...common.cache }),
});

async function reopenFile(
  file: FileNode,
  how: { readOnly: boolean } & CommonOptions['cache'],
): Promise<PreparedReopen> {
  const same = file.readOnly === how.readOnly && file.direct === how.direct && file.noFlush === how.noFlush;
  if (same) return { commit() {}, abort() {} };
  try {
    return await file.prepareReopen(how);
  } catch (error) {
    throw couldNotOpen(file.path, error);
  }
}

function isReadOnlyPlace(error: unknown): boolean {
  const errno = error instanceof EngineError ? error.context.errno : undefined;
  return errno === 'EACCES' || errno === 'EROFS';
}

function nativeNeedsDirect(): EngineError {
  const text = 'aio=native was specified, but it requires cache.direct=on, which was not specified.';
  return new EngineError('invalid-argument', text, { hint: "Say 'cache': {'direct': true} as well." });
}

function couldNotOpen(filename: string, error: unknown): unknown {
  if (!(error instanceof EngineError) || error.context.errno === undefined) return error;
  const text = `Could not open '${filename}': ${systemErrorText(error)}`;
  return new EngineError(error.kind, text, { ...error.context, hint: 'Look at the path.' }, error);
}
