// Goal: after any interruption a state file holds the old or the new content, never a part; only one
// process uses a directory. Method: real folders, files as a crash leaves them, a killed child process.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type FileHandle, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { z } from 'zod';
import { temporaryFolder } from '../testing/temporary-folder.ts';
import { StateLockedError } from './state-lock.ts';
import { StateFileError, StateStore } from './state-store.ts';

const schema = z.strictObject({ version: z.literal(1), text: z.string() });

async function openStore(folder: string): Promise<StateStore> {
  const store = new StateStore({ folder });
  await store.open();
  onTestFinished(() => store.close());
  return store;
}

test('documents and bytes come back after reopening', async () => {
  const folder = await temporaryFolder();
  const first = await openStore(folder);
  await first.write('a/b/doc.json', { version: 1, text: 'hello' });
  await first.writeBytes('a/bits', Buffer.from([1, 2, 255]));
  await first.close();
  const second = await openStore(folder);
  expect(await second.read('a/b/doc.json', schema)).toEqual({ version: 1, text: 'hello' });
  expect(await second.readBytes('a/bits')).toEqual(Buffer.from([1, 2, 255]));
  expect(await second.read('a/missing.json', schema)).toBeUndefined();
  expect(await second.list('nowhere')).toEqual([]);
});

test('writes of one name end in the order of the calls and leave no temporary file', async () => {
  const store = await openStore(await temporaryFolder());
  await Promise.all(
    Array.from({ length: 30 }, (_, index) => store.write('doc.json', { version: 1, text: `${index}` })),
  );
  expect(await store.read('doc.json', schema)).toEqual({ version: 1, text: '29' });
  expect(await readdir(store.folder)).toEqual(['doc.json', 'lock.1']);
});

test('a write whose name cannot be made durable leaves the old content, or none', async () => {
  const store = await openStore(await temporaryFolder());
  await store.write('doc.json', { version: 1, text: 'old' });
  const handle = await open(store.folder, 'r');
  const handles = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const { sync } = handles;
  const spy = vi.spyOn(handles, 'sync').mockImplementation(async function (this: FileHandle) {
    if ((await this.stat()).isDirectory()) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    return sync.call(this);
  });
  onTestFinished(() => spy.mockRestore());
  await expect(store.write('doc.json', { version: 1, text: 'new' })).rejects.toMatchObject({ kind: 'io' });
  await expect(store.write('other.json', { version: 1, text: 'new' })).rejects.toMatchObject({ kind: 'io' });
  expect(await store.read('doc.json', schema)).toEqual({ version: 1, text: 'old' });
  expect(await readdir(store.folder)).toEqual(['doc.json', 'lock.1']);
});

test('what an interrupted write left is removed at the next start, the old content stands', async () => {
  const folder = await temporaryFolder();
  const first = await openStore(folder);
  await first.write('deep/doc.json', { version: 1, text: 'old' });
  await first.close();
  await writeFile(join(folder, 'deep/.doc.json.0123456789ab.tmp'), '{"version":1,"te');
  const second = await openStore(folder);
  expect(await readdir(join(folder, 'deep'))).toEqual(['doc.json']);
  expect(await second.read('deep/doc.json', schema)).toEqual({ version: 1, text: 'old' });
});

test.each([
  ['half a document', '{"version":1,"te', /doc\.json.*not JSON/],
  ['another version', '{"version":2,"text":"x"}', /doc\.json.*version/],
  ['an unknown field', '{"version":1,"text":"x","more":1}', /doc\.json.*more/],
])('%s is an error that names the file and the fault', async (_what, content, message) => {
  const store = await openStore(await temporaryFolder());
  await writeFile(join(store.folder, 'doc.json'), content);
  await expect(store.read('doc.json', schema)).rejects.toThrow(StateFileError);
  await expect(store.read('doc.json', schema)).rejects.toThrow(message);
});

test('a failed write leaves the old content and no temporary file', async () => {
  const store = await openStore(await temporaryFolder());
  await mkdir(join(store.folder, 'taken'));
  await writeFile(join(store.folder, 'taken/inside'), '');
  await expect(store.writeBytes('taken', Buffer.from('x'))).rejects.toThrow();
  expect((await readdir(store.folder)).filter(name => name.endsWith('.tmp'))).toEqual([]);
});

test('names cannot leave the directory', async () => {
  const store = await openStore(await temporaryFolder());
  for (const name of ['../x', 'a/../../x', '/etc/passwd', 'a//b', '']) {
    expect(() => store.path(name)).toThrow(/not a name/);
  }
});

test('removing a file or a folder is good to repeat', async () => {
  const store = await openStore(await temporaryFolder());
  await store.write('x/doc.json', {});
  await store.remove('x/doc.json');
  await store.remove('x/doc.json');
  await store.removeFolder('x');
  await store.removeFolder('x');
  expect(await readdir(store.folder)).toEqual(['lock.1']);
});

test('a second opener is refused and told the process id; after close it may', async () => {
  const folder = await temporaryFolder();
  const first = await openStore(folder);
  const second = new StateStore({ folder });
  await expect(second.open()).rejects.toThrow(StateLockedError);
  await expect(second.open()).rejects.toThrow(new RegExp(`${folder} is in use .* ${process.pid}`));
  await first.close();
  await openStore(folder);
  expect(await readdir(folder)).toEqual(['lock.2']);
});

test('of many that take over at once exactly one succeeds', async () => {
  const folder = await temporaryFolder();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 12 }, async () => {
      const store = new StateStore({ folder });
      await store.open();
      return store;
    }),
  );
  const winners = outcomes.filter(outcome => outcome.status === 'fulfilled');
  expect(winners).toHaveLength(1);
  await winners[0]?.value.close();
});

test('the lock of a living process holds, that of a killed one is taken over', async () => {
  const folder = await temporaryFolder();
  const modulePath = new URL('./state-store.ts', import.meta.url).href;
  const script = `
    const { StateStore } = await import(${JSON.stringify(modulePath)});
    await new StateStore({ folder: ${JSON.stringify(folder)} }).open();
    console.log('open');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  await expect(openStore(folder)).rejects.toThrow(new RegExp(`process id ${child.pid}`));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await openStore(folder);
});

test('a later process with the number of the dead owner does not hold the lock', async () => {
  const folder = await temporaryFolder();
  const first = await openStore(folder);
  const path = join(folder, 'lock.1');
  const owner = JSON.parse(await readFile(path, 'utf8'));
  await first.close();
  await writeFile(path, JSON.stringify({ ...owner, released: false, startTicks: '1' }));
  await openStore(folder);
});
