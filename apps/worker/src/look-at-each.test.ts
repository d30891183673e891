// Goal: all of a list are looked at, whatever is wrong with one of them, and that is told. Method: lists in memory.
import { type Page, pagesOf } from '@tidemark/catalog';
import { TidemarkError } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { lookAtEach } from './look-at-each.ts';

interface Thing {
  readonly name: string;
}

const NAMES = [['a', 'b'], [], ['c']];

const pages = () =>
  pagesOf<Thing>(async ({ cursor }): Promise<Page<Thing>> => {
    const index = Number(cursor ?? 0);
    const items = NAMES[index]!.map(name => ({ name }));
    return { items, nextCursor: index + 1 < NAMES.length ? String(index + 1) : null };
  });

function looks(fault: Error) {
  const seen: string[] = [];
  const done = lookAtEach(pages(), async ({ name }) => {
    seen.push(name);
    if (name !== 'c') throw fault;
  });
  return { seen, done };
}

test('one that fails keeps nobody from the others, and the first is named', async () => {
  const fault = new RangeError('rules that keep nothing');
  const { seen, done } = looks(fault);
  await expect(done).rejects.toMatchObject({ message: "'a' could not be looked at", cause: fault });
  expect(seen).toEqual(['a', 'b', 'c']);
});

test('a catalog that is away is not asked about each of them', async () => {
  const away = new TidemarkError('catalog-unavailable', 'It does not answer.');
  const { seen, done } = looks(away);
  await expect(done).rejects.toBe(away);
  expect(seen).toEqual(['a']);
});
