// Goal: an operator takes snapshots of a live volume and commits them, and the guest finds its data whatever was
// decided and whatever was killed. Method: the real services in a temporary home, driven through the REST API,
// a guest over NBD.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Stack } from './stack.ts';

const MiB = 1024 * 1024;
const DISK_MIB = 8;

let home: string;
let stack: Stack;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'tidemark-home-'));
  stack = new Stack({ home, ports: 'free', nodes: ['alpha'] });
  await stack.start();
});

afterAll(async () => {
  await stack.stop();
  rmSync(home, { recursive: true });
});

interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: the shape of an answer is what the tests look at
  body: any;
}

async function call(method: 'GET' | 'POST', path: string, request?: object): Promise<Answer> {
  const answer = await fetch(`${stack.url}/v1/${path}`, {
    method,
    ...(request && { headers: { 'content-type': 'application/json' }, body: JSON.stringify(request) }),
  });
  return { status: answer.status, body: await answer.json() };
}

/** Waits for the run's end; expects that it is the one wanted. */
async function post(path: string, request?: object): Promise<Answer['body']> {
  const { status, body } = await call('POST', `${path}?wait=done&waitTimeoutMs=60000`, request);
  expect([200, 201], JSON.stringify(body)).toContain(status);
  return body;
}

class Disk {
  readonly name: string;
  readonly #uri: string;

  private constructor(name: string, uri: string) {
    this.name = name;
    this.#uri = uri;
  }

  static async create(name: string): Promise<Disk> {
    const wanted = { name, storageNode: 'alpha', sizeBytes: DISK_MIB * MiB };
    return new Disk(name, (await post('volumes', wanted)).volume.exportUri);
  }

  async #guest<T>(act: (guest: NbdClient) => Promise<T>): Promise<T> {
    const guest = await NbdClient.connect({ uri: this.#uri });
    try {
      return await act(guest);
    } finally {
      await guest.disconnect();
    }
  }

  write(atMiB: number, byte: number): Promise<void> {
    return this.#guest(async guest => {
      await guest.write(atMiB * MiB, Buffer.alloc(MiB, byte));
      await guest.flush();
    });
  }

  /** The byte that each MiB is full of. */
  contents(): Promise<number[]> {
    return this.#guest(async guest => {
      const bytes: number[] = [];
      for (let index = 0; index < DISK_MIB; index++) {
        const part = Buffer.alloc(MiB);
        await guest.read(index * MiB, part);
        expect(part.every(byte => byte === part[0])).toBe(true);
        bytes.push(part[0]!);
      }
      return bytes;
    });
  }

  snapshot(name: string) {
    return post(`volumes/${this.name}/snapshots`, { name });
  }

  async snapshots(): Promise<string[]> {
    const { body } = await call('GET', `volumes/${this.name}/snapshots`);
    return body.items.map((item: { name: string }) => item.name);
  }

  async commit(request: object) {
    return (await post(`volumes/${this.name}/commits`, request)).commit;
  }

  finish(id: string, decision: 'pivot' | 'keep') {
    return post(`volumes/${this.name}/commits/${id}/${decision}`);
  }
}

/** First MiB 1, 2, 3 with a snapshot after each but the last. */
async function layeredDisk(name: string): Promise<Disk> {
  const disk = await Disk.create(name);
  await disk.write(0, 1);
  await disk.write(3, 1);
  await disk.snapshot('one');
  await disk.write(0, 2);
  await disk.write(1, 2);
  await disk.snapshot('two');
  await disk.write(0, 3);
  await disk.write(2, 3);
  return disk;
}

const AFTER = [3, 2, 3, 1, 0, 0, 0, 0];

test('a snapshot is merged into the one below, and then the guest moves to the base', async () => {
  const disk = await layeredDisk('moved');
  expect(await disk.snapshots()).toEqual(['one', 'two']);
  expect(await disk.commit({ top: 'two' })).toMatchObject({
    state: 'done',
    lostSnapshots: [{ name: 'one' }],
  });
  expect(await disk.snapshots()).toEqual(['two']);
  expect(await disk.contents()).toEqual(AFTER);
  const commit = await disk.commit({ active: true });
  expect(commit).toMatchObject({ state: 'ready', lostSnapshots: [{ name: 'two' }] });
  await disk.write(5, 5);
  expect((await call('POST', `volumes/moved/snapshots`, { name: 'x' })).body).toMatchObject({
    code: 'volume-busy',
  });
  expect((await disk.finish(commit.id, 'pivot')).commit).toMatchObject({ state: 'done', decision: 'pivot' });
  await disk.write(6, 6);
  const now = AFTER.with(5, 5).with(6, 6);
  expect(await disk.contents()).toEqual(now);
  const noMore = await call('POST', 'volumes/moved/commits?wait=done', { active: true });
  expect(noMore.body).toMatchObject({ code: 'commit-invalid', detail: expect.stringContaining('snapshot') });
  await disk.snapshot('again');
  expect(await disk.contents()).toEqual(now);
});

test('a guest can be left where it is', async () => {
  const disk = await layeredDisk('kept');
  const { id } = await disk.commit({ active: true, shallow: true });
  await disk.finish(id, 'keep');
  await disk.write(7, 7);
  expect(await disk.contents()).toEqual(AFTER.with(7, 7));
  expect(await disk.snapshots()).toEqual(['one']);
});

test('a commit is cancelled while it copies', async () => {
  const disk = await layeredDisk('cancelled');
  const { body } = await call('POST', 'volumes/cancelled/commits', { active: true, speedBytesPerSecond: 1 });
  const path = `volumes/cancelled/commits/${body.commit.id}`;
  while ((await call('GET', path)).body.state !== 'copying') await delay(50);
  expect((await call('POST', `${path}/pivot`)).body).toMatchObject({ code: 'commit-not-ready' });
  expect((await call('POST', `runs/${body.run.id}/cancel`)).status).toBe(202);
  while ((await call('GET', path)).body.state !== 'cancelled') await delay(50);
  expect(await disk.contents()).toEqual(AFTER);
  const { id } = await disk.commit({ active: true });
  await disk.finish(id, 'pivot');
  expect(await disk.contents()).toEqual(AFTER);
});

test('a storage node that is killed while a commit waits ends it, and a new one begins anew', async () => {
  const disk = await layeredDisk('killed');
  const { id } = await disk.commit({ active: true });
  const alpha = stack.services.get('alpha')!;
  const pid = alpha.pid!;
  process.kill(pid, 'SIGKILL');
  while (alpha.pid === null || alpha.pid === pid) await delay(50);
  const path = `volumes/killed/commits/${id}`;
  let answer: Answer;
  do {
    answer = await call('POST', `${path}/pivot?wait=done&waitTimeoutMs=60000`);
  } while (answer.body.code === 'storage-node-unreachable');
  expect(answer.body).toMatchObject({ code: 'commit-not-found' });
  expect(answer.body.detail).toMatch(/was restarted.*begins with its first phase/);
  expect((await call('GET', path)).body).toMatchObject({ state: 'failed' });
  expect(await disk.contents()).toEqual(AFTER);
  // The catalog may not have heard yet that the storage node is back.
  while ((await call('GET', 'storage-nodes/alpha')).body.state !== 'online') await delay(50);
  const next = await disk.commit({ active: true });
  await disk.write(4, 4);
  await disk.finish(next.id, 'pivot');
  expect(await disk.contents()).toEqual(AFTER.with(4, 4));
});
