// A container that gives one storage node its join token and ends: `invite.ts NAME FILE`. Good to repeat: a storage
// node that has joined keeps its token, which is worth nothing any more; one that has not is given a new one.

import { existsSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { TidemarkClient } from '@tidemark/client';
import { readSettings } from '@tidemark/proto';
import { z } from 'zod';
import { findStorageNode, waitForApi } from '../stack/registration.ts';

/** All of it: the api is healthy before this is started. */
const TIMEOUT_MS = 600_000;
/** Only the user that both containers run as reads it. */
const MODE = 0o400;

const environment = z.object({ TIDEMARK_URL: z.url(), TIDEMARK_TOKEN: z.string().min(1) });
const { TIDEMARK_URL: url, TIDEMARK_TOKEN: token } = readSettings(environment, process.env, [
  'TIDEMARK_TOKEN',
]);
const [name, file] = process.argv.slice(2);
if (!name || !file) throw new Error('give the name of the storage node, and the file for its join token');
const signal = AbortSignal.timeout(TIMEOUT_MS);
const client = new TidemarkClient({ url, token, signal });

await waitForApi(url, signal);
const known = existsSync(file) ? await findStorageNode(client, name) : null;
if (known !== null && known.state !== 'joining') {
  console.log(`storage node ${name} is ${known.state}: it has joined and keeps its token`);
} else {
  const { secret } = await client.post('/v1/join-tokens', { body: { name } });
  // One that an interrupted start left is read-only for whoever is not root.
  await rm(`${file}.new`, { force: true });
  await writeFile(`${file}.new`, secret, { mode: MODE });
  await rename(`${file}.new`, file);
  console.log(`storage node ${name} has a new join token in ${file}`);
}
