// `node scripts/openapi-document.ts FILE`: writes the OpenAPI document of the API as it is, for what is generated
// from it. Nothing is connected to.

import { writeFileSync } from 'node:fs';
import { buildApp } from '../apps/api/src/app.ts';

const file = process.argv[2];
if (file === undefined) throw new Error('no file is named: node scripts/openapi-document.ts FILE');
const app = await buildApp({
  databaseUrl: 'postgres://127.0.0.1:1/none',
  queueUrl: 'postgres://127.0.0.1:1/none',
});
writeFileSync(file, `${JSON.stringify(app.swagger(), null, 2)}\n`);
// Clients that try to connect in the background would hold up the end.
process.exit(0);
