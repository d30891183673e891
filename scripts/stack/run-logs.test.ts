// Goal: one run is followed through the logs of every process by its id, from the request over the queue and each
// storage node to the end of the engine's job. Method: a backup on the real services, and their log files.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Operator } from './testing/operator.ts';

let operator: Operator;

beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
});
afterAll(() => operator?.close());

interface Line {
  readonly msg: string;
  readonly time: number;
  readonly runId?: string;
  readonly method?: string;
  readonly type?: string;
  readonly kind?: string;
}

function linesOf(service: string): Line[] {
  const text = readFileSync(join(operator.stack.home, 'logs', `${service}.log`), 'utf8');
  return text
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as Line);
}

test('a backup leaves its run’s id in the log of every process, in the order of what happened', async () => {
  const { run } = await operator.backUp('disk', 'monday', 'full');
  const told = (service: string) => linesOf(service).filter(line => line.runId === run.id);
  const messages = (service: string) => told(service).map(({ msg }) => msg);
  expect(messages('api')).toContain('run accepted');
  await expect.poll(() => messages('worker'), { timeout: 60_000 }).toContain('run attempt ended');
  expect(messages('worker')).toEqual(expect.arrayContaining(['run claimed', 'step done', 'run succeeded']));
  const methods = (service: string) => told(service).map(({ method }) => method?.split('/').at(-1));
  expect(methods('alpha')).toContain('StartBackup');
  expect(methods('beta')).toEqual(expect.arrayContaining(['PrepareBackup', 'StartCheck']));
  const jobs = (service: string) => told(service).filter(({ msg }) => msg === 'job ended');
  expect(jobs('alpha')).toMatchObject([{ type: 'backup' }]);
  expect(jobs('beta')).not.toEqual([]);

  const at = (service: string, msg: string) => told(service).find(line => line.msg === msg)!.time;
  const order = [at('api', 'run accepted'), at('worker', 'run claimed'), at('alpha', 'job ended')];
  expect(order).toEqual([...order].sort((a, b) => a - b));
});
