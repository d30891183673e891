// Goal: a damage map is in order, joined and bounded, whatever the order in which damage is found.
import { expect, test } from 'vitest';
import { JobDamage } from './job-damage.ts';

test('places are in order, and neighbours are joined', () => {
  const damage = new JobDamage();
  for (const offset of [40, 0, 20, 10, 80]) damage.add(offset, 10);
  expect(damage.ranges).toEqual([
    { offset: 0, length: 30 },
    { offset: 40, length: 10 },
    { offset: 80, length: 10 },
  ]);
  damage.add(30, 10);
  expect(damage.ranges).toEqual([
    { offset: 0, length: 50 },
    { offset: 80, length: 10 },
  ]);
  expect(damage).toMatchObject({ bytes: 60, truncated: false });
});

test('beyond the bound bytes are counted and places are not', () => {
  const damage = new JobDamage({ rangesMax: 2 });
  for (const offset of [0, 20, 40]) damage.add(offset, 5);
  damage.add(5, 5);
  expect(damage).toMatchObject({ bytes: 20, truncated: true });
  expect(damage.ranges).toEqual([
    { offset: 0, length: 10 },
    { offset: 20, length: 5 },
  ]);
});
