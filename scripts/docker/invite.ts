// A container that gives one storage node its join token and ends: `invite.ts NAME FILE`. Good to repeat: a storage
// node that has joined keeps its token, which is worth nothing any more; one that has not is given a new one.

import { existsSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { readSettings } from '@tidemark/proto';
import { z } from 'zod';
import { waitForApi } from '../stack/registration.ts';

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
const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };

/** The catalog knows it, and the fleet has reached it. */
async function hasJoined(): Promise<boolean> {
  const answer = await fetch(`${url}/v1/storage-nodes/${name}`, { headers, signal });
  if (answer.status === 404) return false;
  if (!answer.ok) throw new Error(`GET storage node ${name}: ${await answer.text()}`);
  return ((await answer.json()) as { state: string }).state !== 'joining';
}

async function newToken(): Promise<string> {
  const body = JSON.stringify({ name });
  const answer = await fetch(`${url}/v1/join-tokens`, { method: 'POST', headers, body, signal });
  if (!answer.ok) throw new Error(`no join token for storage node ${name}: ${await answer.text()}`);
  return ((await answer.json()) as { secret: string }).secret;
}

await waitForApi(url, signal);
if (existsSync(file) && (await hasJoined())) {
  console.log(`storage node ${name} has joined already`);
} else {
  await writeFile(`${file}.new`, await newToken(), { mode: MODE });
  await rename(`${file}.new`, file);
  console.log(`made a join token for storage node ${name}`);
}
