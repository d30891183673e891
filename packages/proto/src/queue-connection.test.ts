// Goal: one address decides the backend, and an unknown scheme is refused with the known ones named.
import { expect, test } from 'vitest';
import { queueKind } from './queue-connection.ts';

test.each([
  ['redis://127.0.0.1:6379', 'redis'],
  ['rediss://queue.example:6380/1', 'redis'],
  ['postgres://tidemark@127.0.0.1/tidemark', 'postgres'],
  ['postgresql://127.0.0.1/tidemark', 'postgres'],
])('%s is kept in %s', (url, kind) => {
  expect(queueKind(url)).toBe(kind);
});

test('an unknown scheme is refused, naming those that are known', () => {
  expect(() => queueKind('amqp://127.0.0.1')).toThrow(/'amqp:'.*redis:\/\/ or postgres:\/\//);
});
