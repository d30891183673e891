// Goal: the model calls wrong what cannot be, and nothing else. Method: stories by hand on four blocks.
import { describe, expect, test } from 'vitest';
import { type Change, DiskModel, judgeTogether, ZEROES } from './disk-model.ts';
import { BLOCKS_OF_A_GRANULE } from './limits.ts';

const BLOCKS = 4;
const held = (...contents: number[]) =>
  Uint32Array.from({ length: BLOCKS }, (_, block) => contents[block] ?? 0);

function write(model: DiskModel, block: number): number {
  const content = model.nextContent();
  model.acknowledge(model.issue(block, content));
  return content;
}

function send(model: DiskModel, block: number): Change {
  return model.issue(block, model.nextContent());
}

describe('after a crash', () => {
  test('what was flushed is there, what was not may be there or not', () => {
    const model = new DiskModel(BLOCKS);
    write(model, 0);
    model.flushed(model.now());
    write(model, 0);
    write(model, 1);
    send(model, 2);
    for (const contents of [held(1), held(2), held(1, 3), held(2, 0, 4)]) {
      expect(structuredModel(model).settle(contents, 0)).toEqual([]);
    }
    expect(model.settle(held(0, 0, 9), 0)).toMatchObject([
      { block: 0, found: 0 },
      { block: 2, found: 9 },
    ]);
  });

  /** The same story again: settling changes a model. */
  function structuredModel(_like: DiskModel): DiskModel {
    const model = new DiskModel(BLOCKS);
    write(model, 0);
    model.flushed(model.now());
    write(model, 0);
    write(model, 1);
    send(model, 2);
    return model;
  }

  test('a flush answers only for what was acknowledged before it was requested', () => {
    const model = new DiskModel(BLOCKS);
    const requestedAt = model.now();
    write(model, 0);
    model.flushed(requestedAt);
    expect(model.settle(held(), 0)).toEqual([]);
    expect(model.current(0)).toBe(ZEROES);
  });
});

describe('an image of an instant', () => {
  test('may hold what a crash has lost, or not, when nobody knows which came first', () => {
    const model = new DiskModel(BLOCKS);
    write(model, 0);
    const window = { from: model.now(), to: model.now() };
    expect(model.settle(held(), model.now())).toEqual([]);
    for (const contents of [held(), held(1)]) expect(model.judge(contents, window)).toEqual([]);
    const later = { from: model.now(), to: model.now() };
    expect(model.judge(held(1), later)).toMatchObject([{ block: 0, found: 1 }]);
  });

  test('holds what was acknowledged before, and nothing that was issued later', () => {
    const model = new DiskModel(BLOCKS);
    write(model, 0);
    const window = { from: model.now(), to: model.now() };
    write(model, 1);
    expect(model.judge(held(1), window)).toEqual([]);
    expect(model.judge(held(), window)).toMatchObject([{ block: 0 }]);
    expect(model.judge(held(1, 2), window)).toMatchObject([{ block: 1, found: 2 }]);
  });

  test('holds of the writes around it no later one without an earlier one', () => {
    const model = new DiskModel(BLOCKS);
    const from = model.now();
    write(model, 0);
    write(model, 1);
    const window = { from, to: model.now() };
    for (const contents of [held(), held(1), held(1, 2)]) expect(model.judge(contents, window)).toEqual([]);
    expect(model.judge(held(0, 2), window)).toMatchObject([{ block: 0, found: 0, expected: '1' }]);
  });
});

test('a block counts as changed when no instant of the window had its content', () => {
  const model = new DiskModel(BLOCKS);
  write(model, 0);
  const from = model.now();
  write(model, 1);
  const window = { from, to: model.now() };
  write(model, 2);
  model.acknowledge(model.issue(3, ZEROES));
  expect(model.changedSince(window)).toEqual([2]);
  model.acknowledge(model.issue(0, ZEROES));
  expect(model.changedSince(window)).toEqual([0, 2]);
});

test('what requests touched since an instant is told from what a crash left', () => {
  const model = new DiskModel(3 * BLOCKS_OF_A_GRANULE);
  const early = model.issue(0, model.nextContent());
  model.acknowledge(early);
  const instant = { from: model.now(), to: model.now() };
  // Issued before, under way at the instant or later: nobody knows.
  const late = model.issue(BLOCKS_OF_A_GRANULE, model.nextContent());
  const contents = new Uint32Array(model.blocks);
  contents[0] = early.content;
  model.settle(contents, model.now());
  expect(late.doneAt).toBeGreaterThan(instant.from);
  expect(model.touchedGranules(instant)).toEqual(new Set([1]));
});

test('images of two disks are of one instant, or one shows an effect without its cause', () => {
  const clock = { now: 0 };
  const [first, second] = [new DiskModel(BLOCKS, clock), new DiskModel(BLOCKS, clock)];
  const window = { from: clock.now, to: Number.POSITIVE_INFINITY };
  const cause = write(first, 0);
  const effect = write(second, 0);
  const together = (a: Uint32Array, b: Uint32Array) =>
    judgeTogether([
      { model: first, contents: a, window },
      { model: second, contents: b, window },
    ]);
  expect(together(held(), held())).toEqual([[], []]);
  expect(together(held(cause), held())).toEqual([[], []]);
  expect(together(held(cause), held(effect))).toEqual([[], []]);
  expect(together(held(), held(effect))).toMatchObject([[{ block: 0, found: 0 }], []]);
});
