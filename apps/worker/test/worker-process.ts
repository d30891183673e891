// A worker in a process of its own, to be killed: `node worker-process.ts '{"databaseUrl": …}'`.
import { killPoints } from '@tidemark/proto';
import { pino } from 'pino';
import { RunWorker } from '../src/worker.ts';

const options = JSON.parse(process.argv[2] ?? '{}');
const worker = new RunWorker({
  ...options,
  pass: killPoints(options.killPoints, 'worker'),
  owner: `killed-${process.pid}`,
  log: pino({ level: 'silent' }),
});
await worker.start();
process.stdout.write('ready\n');
