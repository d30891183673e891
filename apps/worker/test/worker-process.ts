// A worker in a process of its own, to be killed: `node worker-process.ts '{"databaseUrl": …}'`.
import { pino } from 'pino';
import { RunWorker } from '../src/worker.ts';

const worker = new RunWorker({
  ...JSON.parse(process.argv[2] ?? '{}'),
  owner: `killed-${process.pid}`,
  log: pino({ level: 'silent' }),
});
await worker.start();
process.stdout.write('ready\n');
