// Goal: an operator can do everything from a shell, a program can read every answer, and every failure says
// what to do. Method: a real API on a database of its own; a loop does what a worker would do to the rows.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { buildApp } from '@tidemark/api/app';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram } from '../src/program.ts';
import { StandInWorker } from './support/stand-in-worker.ts';

const BIN = fileURLToPath(new URL('../bin/tidemark.mjs', import.meta.url));
let database: TestDatabase;
let app: Awaited<ReturnType<typeof buildApp>>;
let worker: StandInWorker;
let url: string;

beforeAll(async () => {
  database = await createTestDatabase();
  app = await buildApp({ databaseUrl: database.url, queueUrl: database.url });
  url = await app.listen({ host: '127.0.0.1', port: 0 });
  worker = new StandInWorker(app.catalog);
  worker.start();
  for (const node of ['alpha', 'beta']) {
    await done('storage-node', 'add', node, '--control-address', `${node}.example:7411`);
  }
  await done('repository', 'create', 'nightly', '--storage-node', 'beta');
});

afterAll(async () => {
  await worker.stop();
  await app.close();
  await database.drop();
});

interface Outcome {
  exit: number;
  out: string;
  err: string;
}

async function tidemarkOn(terminal: { isTTY: boolean; url?: string }, ...args: string[]): Promise<Outcome> {
  const out = new PassThrough();
  const err = Object.assign(new PassThrough(), { isTTY: terminal.isTTY });
  const exit = await runProgram(args, { url: terminal.url ?? url, terminal: { out, err } });
  const text = (stream: PassThrough) => String(stream.read() ?? '');
  return { exit, out: text(out), err: text(err) };
}

const tidemark = (...args: string[]) => tidemarkOn({ isTTY: false }, ...args);

/** Expects success; returns stdout. */
async function done(...args: string[]): Promise<string> {
  const { exit, out, err } = await tidemark(...args);
  expect(exit, err).toBe(0);
  return out;
}

const json = async (...args: string[]) => JSON.parse(await done(...args, '--json'));

test('storage nodes are shown in aligned columns', async () => {
  const lines = (await done('storage-node', 'list')).trimEnd().split('\n');
  expect(lines[0]).toMatch(/^NAME {3}STATE {3}CONTROL {13}NBD/);
  expect(lines[1]).toMatch(/^alpha {2}online {2}alpha\.example:7411 {2}alpha\.example:10809/);
  expect(await done('storage-node', 'show', 'beta')).toMatch(/^NAME +beta$/m);
});

test('a volume is created, waited for, shown and deleted', async () => {
  const { exit, out, err } = await tidemark(
    'volume',
    'create',
    'web',
    '--storage-node',
    'alpha',
    '--size',
    '1GiB',
  );
  expect(exit).toBe(0);
  expect(out).toMatch(/^STATE +ready$/m);
  expect(out).toMatch(/^SIZE +1 GiB$/m);
  expect(err).toMatch(/^create-volume [0-9a-f-]{36}: succeeded$/m);
  expect((await json('volume', 'show', 'web')).sizeBytes).toBe(1_073_741_824);
  expect(await done('volume', 'delete', 'web')).toBe('deleted volume web\n');
  expect((await json('volume', 'list')).items).toEqual([]);
  expect(await done('volume', 'list')).toBe('none\n');
});

test('labels are given, changed, shown and chosen by', async () => {
  const made = ['--storage-node', 'alpha', '--size', '512', '--label', 'app=web', '--label', 'tier=gold'];
  await done('volume', 'create', 'labelled', ...made);
  const label = (...changes: string[]) => done('volume', 'label', 'labelled', ...changes);
  expect(await label()).toMatch(/^LABELS {2}app=web,tier=gold$/m);
  expect(await label('tier-', 'zone=a', 'empty=')).toMatch(/^LABELS {2}app=web,zone=a,empty=$/m);
  const chosen = (selector: string) => json('volume', 'list', '--selector', selector);
  expect((await chosen('app in (web),!tier')).items).toHaveLength(1);
  expect((await chosen('tier')).items).toEqual([]);
  const bad = await tidemark('volume', 'list', '--selector', 'app in (');
  expect(bad.exit).not.toBe(0);
  expect(bad.err).toContain('character 1');
  expect((await tidemark('volume', 'label', 'labelled', 'nothing')).exit).not.toBe(0);
  expect(await done('storage-node', 'label', 'alpha', 'zone=a')).toMatch(/^LABELS {2}zone=a$/m);
  expect(await done('repository', 'label', 'nightly', 'use=nights')).toMatch(/^LABELS {2}use=nights$/m);
  expect(await done('repository', 'show', 'nightly')).toMatch(/^LABELS +use=nights$/m);
  await done('volume', 'delete', 'labelled');
});

test('with --json stdout holds the answer alone', async () => {
  const answer = await json(
    'volume',
    'create',
    'j',
    '--storage-node',
    'alpha',
    '--size',
    '512',
    '--format',
    'qcow2',
  );
  expect(answer.run).toMatchObject({ kind: 'create-volume', state: 'succeeded' });
  expect(answer.volume).toMatchObject({ name: 'j', state: 'ready', format: 'qcow2', sizeBytes: 512 });
  const before = await tidemark('--json', 'volume', 'show', 'j');
  expect(JSON.parse(before.out)).toEqual(answer.volume);
  expect(before.err).toBe('');
});

test('with --no-wait the command names the run and ends', async () => {
  const args = ['volume', 'create', 'later', '--storage-node', 'alpha', '--size', '1MiB', '--no-wait'];
  const out = await done(...args);
  const [, id] = /tidemark run watch ([0-9a-f-]{36})/.exec(out) ?? [];
  expect(await done('run', 'watch', id!)).toMatch(/^STATE +succeeded$/m);
  expect(await done('run', 'show', id!)).toMatch(/^STEP +STATE.*\nwork +succeeded/m);
});

test('the main job: checkpoint, backups, restores', async () => {
  await done('volume', 'create', 'disk', '--storage-node', 'alpha', '--size', '2MiB');
  const backup = ['backup', 'create', '--volume', 'disk', '--repository', 'nightly'];
  const monday = await json(...backup, '--kind', 'full', '--checkpoint', 'monday', '--speed', '10MiB');
  expect(monday.backup).toMatchObject({ kind: 'full', state: 'available', checkpoint: 'monday' });
  expect(monday.run.request.speedBytesPerSecond).toBe(10_485_760);
  const out = await done(...backup, '--kind', 'incremental', '--checkpoint', 'tuesday', '--base', 'monday');
  expect(out).toMatch(/^REASON +incremental: since checkpoint 'monday'$/m);
  expect(await done('checkpoint', 'create', 'disk', 'noon')).toMatch(/^NAME +noon\nSTATE +ready$/m);
  expect(await done('checkpoint', 'show', 'disk', 'noon')).toMatch(/^NAME +noon\nSTATE +ready$/m);
  const checkpoints = await done('checkpoint', 'list', 'disk');
  expect(checkpoints.match(/^\w+/gm)).toEqual(['NAME', 'monday', 'tuesday', 'noon']);
  expect(await done('checkpoint', 'delete', 'disk', 'noon')).toBe('deleted checkpoint noon of volume disk\n');
  expect((await json('backup', 'list', '--volume', 'disk')).items).toHaveLength(2);
  expect(await done('backup', 'show', monday.backup.id)).toMatch(/^CHECKPOINT +monday$/m);
  const dated = ['--until', '2030-01-01'];
  for (const [verb = '', ...more] of [['show'], ['describe', 'kept'], ['pin', ...dated], ['unpin']]) {
    expect(await done('backup', verb, monday.backup.id, ...more)).toMatch(/^REPOSITORY +nightly$/m);
  }
  expect(await json('backup', 'show', monday.backup.id)).toMatchObject({
    repositoryId: monday.backup.repositoryId,
  });

  const restored = await json(
    ...['restore', '--volume', 'disk', '--checkpoint', 'monday'],
    ...['--storage-node', 'beta', '--to-volume', 'disk-monday'],
  );
  expect(restored.volume).toMatchObject({ name: 'disk-monday', storageNode: 'beta', sizeBytes: 2_097_152 });
  const file = ['--storage-node', 'alpha', '--to-file', 'disk.raw'];
  expect(await done('restore', '--backup', monday.backup.id, ...file)).toBe(
    'restored to /restores/disk.raw\n',
  );
  const instant = ['--storage-node', 'beta', '--instant', 'disk-now', '--speed', '1MiB'];
  const quick = await done('restore', '--backup', monday.backup.id, ...instant);
  expect(quick).toMatch(/^NAME +disk-now$/m);
  expect(quick).toMatch(/The rest is pulled behind; follow it with: tidemark run watch/);
  const over = await json(
    'restore',
    '--backup',
    monday.backup.id,
    '--in-place',
    'disk',
    '--even-if-connected',
  );
  expect(over.run.request.target.inPlace).toMatchObject({ name: 'disk', evenIfConnected: true });
});

test('a restore with holes is shown, and told by the exit status', async () => {
  await done('volume', 'create', 'holed', '--storage-node', 'alpha', '--size', '2MiB');
  const backup = ['backup', 'create', '--volume', 'holed', '--repository', 'nightly', '--kind', 'full'];
  const { id } = (await json(...backup, '--checkpoint', 'monday')).backup;
  const ranges = [{ offset: 131_072, length: 65_536 }];
  worker.damageNext({ bytes: 65_536, ranges, truncated: false });
  const { exit, out, err } = await tidemark(
    ...['restore', '--backup', id, '--storage-node', 'beta', '--to-volume', 'with-holes'],
  );
  expect(exit).toBe(3);
  expect(out).toMatch(/^NAME +with-holes$/m);
  expect(err).toMatch(/^complete with holes: 64 KiB of the backup cannot be read/m);
  expect(err).toMatch(/^ {2}131072 \+ 65536$/m);
});

test('snapshots are taken and committed, with a decision where the guest writes', async () => {
  await done('volume', 'create', 'snap', '--storage-node', 'alpha', '--size', '2MiB');
  expect(await done('snapshot', 'create', 'snap', 'one')).toMatch(/^NAME +one\nSTATE +ready$/m);
  await done('snapshot', 'create', 'snap', 'two');
  expect(await done('snapshot', 'show', 'snap', 'two')).toMatch(/^NAME +two$/m);
  const merged = await json(
    'commit',
    'start',
    'snap',
    '--top',
    'two',
    '--shallow',
    '--keep-files',
    '--speed',
    '1MiB',
  );
  expect(merged.commit).toMatchObject({ state: 'done', shallow: true, delete: false, active: false });
  expect(merged.run.request.speedBytesPerSecond).toBe(1_048_576);
  expect((await done('snapshot', 'list', 'snap')).match(/^\w+/gm)).toEqual(['NAME', 'two']);
  const out = await done('commit', 'start', 'snap', '--active');
  expect(out).toMatch(/^STATE +ready$/m);
  expect(out).toMatch(/^OVERWROTE +two$/m);
  const [, id] = /tidemark commit pivot snap ([0-9a-f-]{36})\n {2}tidemark commit keep snap/.exec(out) ?? [];
  expect((await tidemark('snapshot', 'create', 'snap', 'three')).err).toMatch(/^code: volume-busy$/m);
  expect(await done('commit', 'show', 'snap', id!)).toBe(out);
  expect(await done('commit', 'pivot', 'snap', id!)).toMatch(/^STATE +done\n.*\n.*\nDECISION +pivot$/m);
  expect((await tidemark('commit', 'keep', 'snap', id!)).err).toMatch(/^code: commit-not-ready$/m);
  expect((await done('commit', 'list', 'snap')).split('\n')[1]).toMatch(
    /done +\(the guest\) +\(the oldest\) +pivot/,
  );
});

test('lists take limits, and long ones are shown whole', async () => {
  const runs = await json('run', 'list', '--limit', '2', '--kind', 'create-volume', '--state', 'succeeded');
  expect(runs.items).toHaveLength(2);
  expect(runs.nextCursor).toEqual(expect.any(String));
  const next = await json(
    'run',
    'list',
    '--limit',
    '2',
    '--kind',
    'create-volume',
    '--cursor',
    runs.nextCursor,
  );
  expect(next.items[0].id).not.toBe(runs.items[0].id);
});

test('a list that goes on says how to see the rest', async () => {
  const first = await done('run', 'list', '--limit', '2');
  const [, cursor] = /^more: --cursor (\S+)$/m.exec(first) ?? [];
  const second = await done('run', 'list', '--limit', '2', '--cursor', cursor!);
  expect(second.split('\n')[0]).toMatch(/^ID +KIND/);
  expect(second.split('\n')[1]).not.toBe(first.split('\n')[1]);
  expect(await done('storage-node', 'list', '--limit', '100')).not.toContain('more:');
});

test('a failed run fails the command with its title, detail and code', async () => {
  worker.failNext({ code: 'storage-full', message: "Storage node 'alpha' has no room left. Add some." });
  const { exit, out, err } = await tidemark(
    'volume',
    'create',
    'big',
    '--storage-node',
    'alpha',
    '--size',
    '1TiB',
  );
  expect({ exit, out }).toEqual({ exit: 1, out: '' });
  expect(err).toMatch(/error: The create-volume run [0-9a-f-]{36} failed\nStorage node 'alpha' has no room/);
  expect(err).toMatch(/^code: storage-full$/m);
});

test('a run is cancelled, and watching it fails', async () => {
  await worker.stop();
  const args = ['volume', 'create', 'never', '--storage-node', 'alpha', '--size', '512', '--no-wait'];
  const { run } = await json(...args);
  expect(await done('run', 'cancel', run.id)).toBe(`asked create-volume run ${run.id} to stop\n`);
  worker.start();
  const { exit, err } = await tidemark('run', 'watch', run.id);
  expect(exit).toBe(1);
  expect(err).toMatch(/was cancelled.*\ncode: run-cancelled$/ms);
});

test('a refusal is told with title, detail and code', async () => {
  const { exit, out, err } = await tidemark('volume', 'show', 'nope', '--json');
  expect({ exit, out }).toEqual({ exit: 1, out: '' });
  expect(err).toBe(
    "error: The volume is not known\nThere is no volume 'nope'. List them to see what there " +
      'is.\ncode: volume-not-found\n',
  );
});

test('names reach the API unharmed', async () => {
  const { err } = await tidemark('volume', 'show', 'a/b?c=%20');
  expect(err).toContain("no volume 'a/b?c=%20'");
});

test('on a terminal there is a bar, on stderr', async () => {
  const args = ['volume', 'create', 'bar', '--storage-node', 'alpha', '--size', '512'];
  const { exit, out, err } = await tidemarkOn({ isTTY: true }, ...args);
  expect(exit).toBe(0);
  expect(out).toMatch(/^STATE +ready$/m);
  expect(err).toMatch(/create-volume \[.*100%.*done/s);
});

test.each([
  [[], /Usage: tidemark/],
  [['volume'], /Usage: tidemark volume/],
  [['volumes'], /unknown command 'volumes'/],
  [['volume', 'create', 'x', '--storage-node', 'alpha'], /required option '--size <size>' not specified/],
  [['volume', 'create', 'x', '--storage-node', 'alpha', '--size', '1GB'], /Give whole bytes, or a number/],
  [['volume', 'create', 'x', '--storage-node', 'a', '--size', '1', '--format', 'vmdk'], /raw, qcow2/],
  [['backup', 'create', '--volume', 'v', '--repository', 'r', '--checkpoint', 'c'], /'--kind <kind>'/],
  [['restore', '--storage-node', 'alpha', '--to-file', 'x'], /Say what to restore: --backup/],
  [['restore', '--volume', 'v', '--storage-node', 'alpha', '--to-file', 'x'], /Say what to restore/],
  [['restore', '--backup', 'b', '--storage-node', 'alpha'], /Say where to: --to-volume/],
  [
    ['restore', '--backup', 'b', '--volume', 'v', '--storage-node', 'a', '--to-file', 'x'],
    /cannot be used with/,
  ],
  [['restore', '--backup', 'b', '--in-place', 'v', '--storage-node', 'a'], /cannot be used with/],
  [['restore', '--backup', 'b', '--in-place', 'v', '--format', 'qcow2'], /cannot be used with/],
  [
    ['restore', '--backup', 'b', '--instant', 'v', '--storage-node', 'a', '--format', 'raw'],
    /cannot be used with/,
  ],
  [['restore', '--backup', 'b', '--to-file', 'f', '--even-if-connected'], /belongs to --in-place/],
  [['checkpoint', 'redefine', 'v', '--checkpoint', '=monday'], /Give an id/],
  [['commit', 'start', 'v', '--top', 's', '--active'], /cannot be used with/],
  [['commit', 'start', 'v', '--base', 's', '--shallow'], /cannot be used with/],
  [['commit', 'pivot', 'v'], /missing required argument 'commit'/],
  [['event', 'list', '--after', 'monday'], /Give a whole number/],
  [['volume', 'list', '--url', 'localhost'], /Give an address like/],
])('%j is a usage error', async (args, words) => {
  const { exit, out, err } = await tidemark(...args);
  expect({ exit, out }).toEqual({ exit: 2, out: '' });
  expect(err).toMatch(words);
});

test('help and version are answers, on stdout', async () => {
  expect(await done('--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
  const help = await done('volume', 'create', '--help');
  expect(help).toContain('--no-wait');
  expect(help).toContain('--json');
});

test('a refused connection says where, and what to start', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const { exit, err } = await tidemarkOn({ isTTY: false, url: `http://127.0.0.1:${port}` }, 'volume', 'list');
  expect(exit).toBe(1);
  expect(err).toContain(`No Tidemark API answers at http://127.0.0.1:${port} (ECONNREFUSED)`);
  expect(err).toMatch(/npm start.*--url or TIDEMARK_URL/);
});

test('an answer that breaks off is told in words', async () => {
  const server = createHttpServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 });
    response.write('{"items":', () => response.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const { exit, err } = await tidemarkOn({ isTTY: false, url: `http://127.0.0.1:${port}` }, 'volume', 'list');
  server.close();
  expect(exit).toBe(1);
  expect(err).toContain(`The answer of http://127.0.0.1:${port} broke off`);
  expect(err).not.toContain('    at ');
});

test('something else at the address is told apart', async () => {
  const { exit, err } = await tidemark('volume', 'list', '--url', `${url}/docs`);
  expect(exit).toBe(1);
  expect(err).toMatch(/code: route-not-found|Is this a Tidemark API\?/);
});

test('the installed command takes its address from the environment', async () => {
  const env = { ...process.env, TIDEMARK_URL: url };
  const { stdout } = await promisify(execFile)(process.execPath, [BIN, 'repository', 'list', '--json'], {
    env,
  });
  expect(JSON.parse(stdout).items).toMatchObject([{ name: 'nightly', state: 'ready' }]);
  const bad = promisify(execFile)(process.execPath, [BIN, 'volume', 'list'], {
    env: { ...env, TIDEMARK_URL: 'x' },
  });
  await expect(bad).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining("TIDEMARK_URL is 'x'"),
  });
});
