// Goal: from a shell an admin lets others in and keeps them out, and whoever has a token sends it without showing it.
// Method: a real API that needs tokens, on a database of its own.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { buildApp } from '@tidemark/api/app';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runProgram } from '../src/program.ts';

const BOOTSTRAP = 'bootstrap-secret-of-this-test-0123456789';
const folder = mkdtempSync(join(tmpdir(), 'tidemark-token-'));
let database: TestDatabase;
let app: Awaited<ReturnType<typeof buildApp>>;
let url: string;

beforeAll(async () => {
  database = await createTestDatabase();
  const urls = { databaseUrl: database.url, queueUrl: database.url };
  app = await buildApp({ ...urls, needsToken: true, bootstrapToken: BOOTSTRAP });
  url = await app.listen({ host: '127.0.0.1', port: 0 });
});

afterAll(async () => {
  await app.close();
  await database.drop();
  rmSync(folder, { recursive: true });
});

interface Access {
  token?: string;
  tokenFile?: string;
}

async function tidemark(access: Access, ...args: string[]) {
  const out = new PassThrough();
  const err = Object.assign(new PassThrough(), { isTTY: false });
  const exit = await runProgram(args, { url, ...access, terminal: { out, err } });
  const text = (stream: PassThrough) => String(stream.read() ?? '');
  return { exit, out: text(out), err: text(err) };
}

const admin = { token: BOOTSTRAP };

test('without a token the command says what to do', async () => {
  const { exit, err } = await tidemark({}, 'volume', 'list');
  expect(exit).toBe(1);
  expect(err).toMatch(/code: unauthenticated/);
  expect(err).toContain('tidemark token create');
});

test('the last admin is not let go by mistake', async () => {
  const refused = await tidemark(admin, 'token', 'revoke', 'bootstrap');
  expect(refused).toMatchObject({ exit: 1, err: expect.stringContaining('--allow-last-admin') });
});

test('a token is made, used from a file, listed and revoked', async () => {
  const made = await tidemark(admin, 'token', 'create', 'ci', '--role', 'viewer', '--scope', 'env=prod');
  expect(made.exit, made.err).toBe(0);
  const secret = /^TOKEN +(tidemark_\S+)$/m.exec(made.out)![1]!;
  expect(made.out).toMatch(/^SCOPE +env=prod$/m);
  expect(made.err).toContain('cannot be shown again');
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, `${secret}\n`);
  expect(await tidemark({ tokenFile }, 'volume', 'list')).toMatchObject({ exit: 0, out: 'none\n' });
  // What is named on the command line comes first.
  const named = await tidemark({ token: 'nonsense' }, '--token-file', tokenFile, 'volume', 'list');
  expect(named.exit, named.err).toBe(0);
  const may = await tidemark({ token: secret }, 'token', 'list');
  expect(may).toMatchObject({ exit: 1, err: expect.stringContaining('code: forbidden') });
  const listed = await tidemark(admin, 'token', 'list');
  expect(listed.out).toMatch(/^ci +viewer +env=prod +usable +bootstrap/m);
  expect(listed.out).not.toContain(secret);
  expect((await tidemark(admin, 'token', 'revoke', 'ci')).out).toBe('revoked ci\n');
  const after = await tidemark({ tokenFile }, 'volume', 'list');
  expect(after.err).toMatch(/was revoked at/);
  expect(after.err).not.toContain(secret);
});

test('a token file that is not there is told before anything is asked', async () => {
  const path = join(folder, 'none');
  const { exit, err } = await tidemark({ tokenFile: path }, 'volume', 'list');
  expect(exit).toBe(2);
  expect(err).toBe(
    `error: The token file ${path} cannot be read (ENOENT). Check --token-file or TIDEMARK_TOKEN_FILE.\n`,
  );
});

test.each([
  ['empty', ''],
  ['blank', ' \n\t\n'],
  ['of two lines', 'tidemark_one\ntidemark_two\n'],
  ['no text of a token', 'tidemark_\u2026\n'],
])('a token file that is %s is told before anything is asked, by its name', async (_what, text) => {
  const path = join(folder, 'bad');
  writeFileSync(path, text);
  for (const [access, ...args] of [
    [{ tokenFile: path }],
    [{ token: 'nonsense' }, '--token-file', path],
  ] as const) {
    const { exit, err } = await tidemark(access, ...args, 'volume', 'list');
    expect([exit, err]).toEqual([2, expect.stringContaining(`The token file ${path} `)]);
    expect(err).toContain('tidemark token create');
    if (text.trim() !== '') expect(err).not.toContain(text.trim());
  }
});

test('a token of the environment that can be none is told, and not shown', async () => {
  const { exit, err } = await tidemark({ token: 'tidemark_se cret' }, 'volume', 'list');
  expect([exit, err]).toEqual([2, expect.stringContaining('TIDEMARK_TOKEN')]);
  expect(err).not.toContain('cret');
});

test('the audit log tells who made and revoked tokens', async () => {
  await tidemark(admin, 'token', 'create', 'seen', '--role', 'viewer');
  await tidemark(admin, 'token', 'create', 'seen', '--role', 'viewer');
  const { out } = await tidemark(admin, 'audit-log', '--action', '/tokens', '--since', '2020-01-01');
  expect(out).toMatch(/bootstrap +POST \/v1\/tokens +\/v1\/tokens +done +- +127\.0\.0\.1$/m);
  expect(out).toMatch(/bootstrap +POST \/v1\/tokens +\/v1\/tokens +token-name-taken/);
  expect((await tidemark(admin, 'audit-log', '--actor', 'nobody')).out).toBe('none\n');
});
