// Goal: the audit log tells what was asked for, and nothing that lets its reader in anywhere.
import { expect, test } from 'vitest';
import { auditedBody } from './audit-request.ts';

test('what is asked for stays, secrets go, wherever they stand', () => {
  const body = {
    name: 'ci',
    secret: 'quiet',
    nested: [{ clientToken: 'quiet', Password: 'quiet', labels: { env: 'prod' } }],
    url: 'https://user:quiet@hooks.example/path?x=1',
    tokens: 3,
    token: '',
  };
  const kept = JSON.stringify(auditedBody(body));
  expect(kept).not.toContain('quiet');
  expect(JSON.parse(kept)).toMatchObject({
    name: 'ci',
    nested: [{ labels: { env: 'prod' } }],
    url: 'https://(not kept)@hooks.example/path?x=1',
    tokens: 3,
    token: '',
  });
});

test('none, and what is too large, is null', () => {
  expect([auditedBody(undefined), auditedBody(null), auditedBody({ x: 'x'.repeat(5_000) })]).toEqual([
    null,
    null,
    null,
  ]);
});
