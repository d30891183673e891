// Goal: what the api writes into a run's row is what the worker reads out of it, and nothing looser.
import { expect, test } from 'vitest';
import { parseRunRequest } from './run-requests.ts';

const id = '3f2b6c1e-8a44-4a0e-9a55-0a6f4f1d2c3b';

test('a request is read as it was written', () => {
  const written = { volumeId: id, name: 'web-01', storageNodeId: id, sizeBytes: 512, format: 'raw' };
  expect(parseRunRequest('create-volume', JSON.parse(JSON.stringify(written)))).toEqual(written);
});

test('a restore has exactly one target', () => {
  const volume = { volumeId: id, name: 'web-02', storageNodeId: id, format: 'raw' };
  const file = { name: 'web.raw', storageNodeId: id };
  const source = { backupId: id, repositoryId: id, sizeBytes: 512 };
  expect(parseRunRequest('restore', { ...source, target: { file } }).target).toEqual({ file });
  expect(() => parseRunRequest('restore', { ...source, target: { volume, file } })).toThrow();
  expect(() => parseRunRequest('restore', { ...source, target: {} })).toThrow();
});
