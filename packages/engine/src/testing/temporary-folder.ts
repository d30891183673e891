// A folder under the system's temporary one that a test file has to itself.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Makes the folder; `file` names a path in it, `remove` deletes it with all it holds. */
export function makeTemporaryFolder(): { path: string; file(name: string): string; remove(): void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemark-engine-'));
  return {
    path: folder,
    file: name => path.join(folder, name),
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}
