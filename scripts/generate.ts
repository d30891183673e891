// `npm run generate`: makes all generated code anew from its sources. Run it after a change to a .proto file, to
// the Prisma schema or to a route of the API; the Prisma client alone is not committed.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootFolder } from './setup/find-node.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'tidemark-generate-'));
process.on('exit', () => rmSync(scratch, { recursive: true }));
const document = join(scratch, 'openapi.json');

const GENERATORS: { folder: string; command: string[] }[] = [
  { folder: 'packages/proto', command: ['buf', 'generate'] },
  { folder: 'packages/catalog', command: ['prisma', 'generate', '--no-hints'] },
  { folder: 'scripts', command: ['node', 'openapi-document.ts', document] },
  {
    folder: 'packages/client',
    command: [
      'node_modules/.bin/openapi-typescript',
      document,
      '--output=src/generated/api.ts',
      // What has a default may be left out of a request.
      '--default-non-nullable=false',
    ],
  },
];

for (const { folder, command } of GENERATORS) {
  const [file, ...args] = command;
  const result = spawnSync(file!, args, { cwd: join(rootFolder, folder), encoding: 'utf8' });
  if (result.status !== 0) {
    console.error(`${result.stdout}${result.stderr}\n${command.join(' ')} failed in ${folder}`);
    process.exit(1);
  }
  console.log(`generated: ${folder}`);
}
