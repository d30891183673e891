// Goal: an operator whose volume finds no place reads why: a selector that chooses nothing is not a lack of room.
import type { StorageNode } from '@tidemark/catalog';
import { expect, test } from 'vitest';
import { whyNowhere } from './placement-nodes.ts';

const node = (state: string, cordonedAt: Date | null = null) => ({ state, cordonedAt }) as StorageNode;

test.each([
  [[], '', 'there is no other storage node'],
  [[], 'zone=b', "no other storage node has labels like 'zone=b'"],
  [
    [node('unreachable'), node('online', new Date())],
    '',
    'every storage node that may be chosen is away or cordoned',
  ],
  [[node('lost'), node('online')], 'zone=b', 'no storage node that may be chosen has room for it'],
])('of %j chosen by %j', (nodes, selector, why) => {
  expect(whyNowhere(nodes, selector)).toBe(why);
});
