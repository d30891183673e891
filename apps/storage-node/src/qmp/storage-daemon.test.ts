// Goal: a daemon that ends closes its images, whatever else cannot be ended.
import { MiB } from '@tidemark/engine';
import { expect, test } from 'vitest';
import { openBlockNode } from '../blockdev/open-block-node.ts';
import { StorageDaemon } from './storage-daemon.ts';

test('closes its block nodes though something else fails to end, and says so', async () => {
  const daemon = new StorageDaemon({ version: '1.2.3' });
  await openBlockNode({ driver: 'null-co', 'node-name': 'disk', size: MiB }, daemon);
  const ended: string[] = [];
  daemon.onQuit(async () => void ended.push('first'));
  daemon.onQuit(async () => {
    throw new Error('the socket is gone');
  });
  await expect(daemon.close()).rejects.toThrow('the socket is gone');
  expect(ended).toEqual(['first']);
  expect([...daemon.graph.nodes]).toEqual([]);
  await expect(daemon.close()).rejects.toThrow('the socket is gone');
});
