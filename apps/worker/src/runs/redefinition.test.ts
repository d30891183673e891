// CP-06 and CP-07: which checkpoints of a storage node make a chain that the catalog can take over, and which do not.
import { randomUUID } from 'node:crypto';
import { Checkpoint } from '@tidemark/proto';
import { describe, expect, test } from 'vitest';
import { planRedefinition, type Redefinition } from './redefinition.ts';

const [a, b, c, d] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()] as const;

const live = (checkpointId: string, name: string, facts: Partial<Checkpoint> = {}) =>
  Checkpoint.fromPartial({ checkpointId, name, createdAtMs: 1, granularityBytes: 65_536, ...facts });

const CHAIN = [live(a, 'a'), live(b, 'b'), live(c, 'c'), live(d, 'd', { recording: true })];

const plan = (more: Partial<Redefinition> = {}) =>
  planRedefinition({
    volume: 'disk',
    definitions: null,
    live: CHAIN,
    known: new Map(),
    allowInconsistent: false,
    ...more,
  });

const defined = (...ids: string[]) =>
  ids.map(checkpointId => ({ checkpointId, name: null, description: null }));
const names = (more?: Partial<Redefinition>) => plan(more).map(({ name }) => name);

describe('CP-06 redefining', () => {
  test('takes all that the catalog does not know, parents first', () => {
    expect(names()).toEqual(['a', 'b', 'c', 'd']);
    expect(names({ known: new Map([[b, 'b']]) })).toEqual(['a', 'c', 'd']);
    expect(names({ known: new Map(CHAIN.map(one => [one.checkpointId, one.name])) })).toEqual([]);
    expect(names({ live: [] })).toEqual([]);
  });

  test('takes what is defined, under the names that are given', () => {
    expect(names({ definitions: defined(c, d) })).toEqual(['c', 'd']);
    const again = { checkpointId: d, name: 'again', description: 'kept' };
    expect(plan({ definitions: [...defined(c), again] })).toMatchObject([
      { name: 'c', isNewText: false },
      { name: 'again', description: 'kept', isNewText: true, originBackupId: null },
    ]);
  });

  test('counts those that the catalog knows as given', () => {
    expect(
      names({
        definitions: defined(b),
        known: new Map([
          [c, 'c'],
          [d, 'd'],
        ]),
      }),
    ).toEqual(['b']);
    expect(names({ definitions: defined(a, b, c, d), known: new Map([[c, 'x']]) })).toEqual(['a', 'b', 'd']);
  });

  test('is refused where names collide', () => {
    const taken = { code: 'checkpoint-name-taken' };
    expect(() => plan({ known: new Map([[randomUUID(), 'b']]) })).toThrow(expect.objectContaining(taken));
    expect(() => plan({ live: [live(a, 'a'), live(b, 'a', { recording: true })] })).toThrow(
      expect.objectContaining(taken),
    );
    expect(() => plan({ live: [live(a, randomUUID(), { recording: true })] })).toThrow(
      expect.objectContaining(taken),
    );
  });
});

describe('CP-07 a chain is refused', () => {
  const invalid = (text: RegExp) =>
    expect.objectContaining({ code: 'checkpoint-invalid', message: expect.stringMatching(text) });

  test('when a checkpoint has no bitmap', () => {
    expect(() => plan({ definitions: defined(c, d, randomUUID()) })).toThrow(invalid(/no bitmap/));
  });

  test('when one is left out on the way to the one that records, or that one', () => {
    expect(() => plan({ definitions: defined(a, c, d) })).toThrow(invalid(/'b'.*left out/));
    expect(() => plan({ definitions: defined(a, b, c) })).toThrow(invalid(/'d'.*left out/));
  });

  test('when the last one does not record, or another one does', () => {
    expect(() => plan({ live: [live(a, 'a'), live(b, 'b')] })).toThrow(invalid(/'b' is the last one/));
    const both = [live(a, 'a', { recording: true }), live(b, 'b', { recording: true })];
    expect(() => plan({ live: both })).toThrow(invalid(/'a' records/));
  });

  test('when the changes since one are not known, unless that is allowed', () => {
    const torn = [live(a, 'a', { inconsistent: true }), live(b, 'b', { recording: true })];
    const code = 'checkpoint-inconsistent';
    expect(() => plan({ live: torn })).toThrow(expect.objectContaining({ code }));
    expect(names({ live: torn, definitions: defined(b) })).toEqual(['b']);
    expect(plan({ live: torn, allowInconsistent: true })).toMatchObject([
      { name: 'a', inconsistent: true },
      { name: 'b', inconsistent: false },
    ]);
    const lost = [live(a, 'a', { inconsistent: true })];
    expect(names({ live: lost, allowInconsistent: true })).toEqual(['a']);
  });

  test('when it is given in another order', () => {
    expect(() => plan({ definitions: defined(a, c, b, d) })).toThrow(invalid(/'b' is older/));
    expect(() => plan({ definitions: defined(c, d, d) })).toThrow(invalid(/'d' is older/));
  });
});
