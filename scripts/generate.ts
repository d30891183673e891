// `npm run generate`: makes all generated code anew from its sources. Run it after a change to a .proto file
// or to the Prisma schema; what protobuf generates is committed, the Prisma client is not.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { rootFolder } from './setup/find-node.mjs';

const GENERATORS: { folder: string; command: string[] }[] = [
  { folder: 'packages/proto', command: ['buf', 'generate'] },
  { folder: 'packages/catalog', command: ['prisma', 'generate', '--no-hints'] },
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
