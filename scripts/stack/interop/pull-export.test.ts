// Goal: somebody else's tool pulls a volume with three checkpoints: for each it is told what changed from it to the
// frozen moment, all of that and nothing else, while the guest goes on; and nobody finds the export who was not told.
// Method: the real services and the real command, libnbd's tools on the export.
import { execFile, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { digestOf, Operator } from '../testing/operator.ts';

const MiB = 1024 * 1024;
const CLUSTER = 64 * 1024;
const TOOLS = ['nbdinfo', 'nbdcopy'];
const PATIENCE = { timeout: 60_000 };
const run = promisify(execFile);

let operator: Operator;
beforeAll(async () => {
  operator = await Operator.open({ disk: '8MiB' });
});
afterAll(() => operator?.close());

async function tool(name: string, ...args: string[]): Promise<string> {
  return (await run(name, args, { timeout: 60_000 })).stdout;
}

/** Clusters that a context calls dirty. */
async function dirtyIn(uri: string, context: string): Promise<number[]> {
  const entries: { offset: number; length: number; type: number }[] = JSON.parse(
    await tool('nbdinfo', '--json', `--map=${context}`, uri),
  );
  return entries
    .filter(({ type }) => type === 1)
    .flatMap(({ offset, length }) =>
      Array.from({ length: length / CLUSTER }, (_, n) => offset / CLUSTER + n),
    );
}

/** Overwrites all of the disk again and again, until told to stop. */
async function busyGuest(): Promise<{ rounds(): number; stop(): Promise<void> }> {
  const client = await NbdClient.connect({ uri: await operator.exportUri('disk') });
  let [rounds, isOn] = [0, true];
  const work = (async () => {
    for (; isOn; rounds += 1) {
      for (let offset = 0; offset < client.sizeBytes; offset += MiB) {
        await client.write(offset, Buffer.alloc(MiB, rounds + 1));
      }
    }
  })();
  return {
    rounds: () => rounds,
    stop: async () => {
      isOn = false;
      await work;
      await client.disconnect();
    },
  };
}

test('an export tells for each checkpoint what changed since, and ends with its run', async context => {
  const missing = TOOLS.filter(name => spawnSync(name, ['--version']).error !== undefined);
  if (missing.length > 0 && process.env.CI) throw new Error(`${missing.join(', ')} not installed`);
  context.skip(missing.length > 0, `${missing.join(', ')} not installed`);
  const writeClusters = async (...clusters: number[]) => {
    for (const cluster of clusters) await operator.write('disk', cluster * CLUSTER, randomBytes(CLUSTER));
  };
  const ids: string[] = [];
  const changes = [
    [0, 1, 2, 3, 20],
    [3, 4, 40],
    [5, 40, 60],
    [6, 100],
  ];
  await writeClusters(...changes[0]!);
  for (const [index, name] of ['one', 'two', 'three'].entries()) {
    ids.push((await operator.json('checkpoint', 'create', 'disk', name)).checkpoint.id);
    await writeClusters(...changes[index + 1]!);
  }
  const held = await operator.digest('disk');
  const first = await operator.json('export', 'create', '--volume', 'disk');
  const second = await operator.json('export', 'create', '--volume', 'disk');
  const { uri, contexts } = first.result;
  expect(contexts).toEqual(ids.map(id => `qemu:dirty-bitmap:${id}`));

  const guest = await busyGuest();
  onTestFinished(guest.stop);
  await expect.poll(() => guest.rounds(), PATIENCE).toBeGreaterThan(0);
  for (const index of ids.keys()) {
    const union = new Set(changes.slice(index + 1).flat());
    expect(await dirtyIn(uri, contexts[index])).toEqual([...union].sort((a, b) => a - b));
  }
  const copy = join(operator.stack.home, 'copy.raw');
  await tool('nbdcopy', uri, copy);
  expect(digestOf(readFileSync(copy))).toBe(held);
  const before = guest.rounds();
  await expect.poll(() => guest.rounds(), PATIENCE).toBeGreaterThan(before);
  for (const index of ids.keys()) {
    expect(await dirtyIn(uri, contexts[index])).toEqual(await dirtyIn(second.result.uri, contexts[index]));
  }

  // Two names of the same volume have nothing in common, and no list has either.
  const secretOf = (text: string) => text.slice(text.lastIndexOf('/') + 1);
  const secrets = [secretOf(uri), secretOf(second.result.uri)];
  for (const secret of secrets) expect(secret).toMatch(/[0-9a-f-]{32,}/);
  expect(secrets[0]!.slice(-32)).not.toBe(secrets[1]!.slice(-32));
  const listed = await tool('nbdinfo', '--list', uri.slice(0, uri.lastIndexOf('/') + 1));
  for (const secret of secrets) expect(listed).not.toContain(secret);

  await operator.tidemark('run', 'finish', first.id);
  await operator.tidemark('run', 'watch', first.id);
  await operator.tidemark('run', 'cancel', second.id);
  const stateOf = async () => (await operator.json('run', 'show', second.id)).state;
  await expect.poll(stateOf, PATIENCE).toBe('cancelled');
  for (const gone of [uri, second.result.uri]) await expect(tool('nbdinfo', gone)).rejects.toThrow();
  expect(await readdir(join(operator.stateDir('alpha'), 'scratch'))).toEqual([]);
});
