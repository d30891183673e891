// Looks whether a file may be made anew: whether anybody relies on it.
import { EngineError, FileNode, fromSystemError, PERMISSION, PERMISSIONS_ALL } from '@tidemark/engine';
import { systemErrorText } from '../qmp/system-error-text.ts';

/**
 * Opens the file for whoever wants to write all of it anew; closing lets go of it. Rejects in QEMU's words where there
 * is none, or somebody relies on it.
 */
export async function claimFile(path: string): Promise<FileNode> {
  const node = await FileNode.open(path, { locking: 'permissions' }).catch(error => {
    throw couldNotCreate(path, error);
  });
  try {
    const shares = PERMISSIONS_ALL & ~PERMISSION.resize;
    node.setPermissions({ uses: PERMISSION.write | PERMISSION.resize, shares });
    return node;
  } catch (error) {
    await node.close();
    throw error;
  }
}

/** The error of a file that could not be made; without an error number, since the text has it all. */
export function couldNotCreate(path: string, cause: unknown): EngineError {
  const error = fromSystemError(cause, { op: 'create', path });
  const { errno, ...context } = error.context;
  if (errno === undefined) return error;
  const text = `Could not create '${path}': ${systemErrorText(error)}`;
  return new EngineError(error.kind, text, { ...context, hint: 'Look at the path.' }, cause);
}
