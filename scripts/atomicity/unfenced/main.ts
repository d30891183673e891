// A storage node that does not hold guests' changes in a group: the negative control of the suite, and nothing else.
import { pino } from 'pino';
import { parseConfig } from '../../../apps/storage-node/src/config.ts';
import { StorageNode } from '../../../apps/storage-node/src/storage-node.ts';

const log = pino({ level: 'info' }, pino.destination({ dest: process.stdout.fd, sync: true }));
const config = parseConfig(process.env);
const storageNode = new StorageNode({
  config,
  log,
  now: () => Date.now(),
  version: '0.0.0',
  fencesOff: true,
});
process.on('SIGTERM', () => void storageNode.close().then(() => process.exit(0)));
await storageNode.start();
