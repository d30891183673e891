// The certificates that docs/SECURITY.md tells an operator to make, made by its own commands.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { rootFolder } from '../../setup/find-node.mjs';

/** Into that folder. Throws when a command fails, or the document holds another number of blocks than one. */
export function makeDocumentedCertificates(folder: string): void {
  const text = readFileSync(join(rootFolder, 'docs', 'SECURITY.md'), 'utf8');
  const [block, ...more] = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map(match => match[1]!);
  if (block === undefined || more.length > 0)
    throw new Error('docs/SECURITY.md has not one block of commands');
  execFileSync('sh', ['-e', '-c', block], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
}
