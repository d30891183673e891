// A container that makes storage nodes known to the api and ends: `register.ts alpha=host:port …`.

import { readSettings } from '@tidemark/proto';
import { z } from 'zod';
import { registerStorageNode, waitForApi } from '../stack/registration.ts';

/** All of it: the services are healthy before this is started. */
const TIMEOUT_MS = 600_000;

const environment = z.object({ TIDEMARK_TOKEN: z.string().optional() });
const url = process.env.TIDEMARK_URL;
if (!url) throw new Error('TIDEMARK_URL is not set; give the address of the api');
const { TIDEMARK_TOKEN: token } = readSettings(environment, process.env, ['TIDEMARK_TOKEN']);
const signal = AbortSignal.timeout(TIMEOUT_MS);
await waitForApi(url, signal);
for (const argument of process.argv.slice(2)) {
  const [name, controlAddress] = argument.split('=');
  if (!name || !controlAddress) throw new Error(`'${argument}' is not name=host:port`);
  await registerStorageNode(url, { name, controlAddress }, signal, token);
  console.log(`registered ${name}`);
}
