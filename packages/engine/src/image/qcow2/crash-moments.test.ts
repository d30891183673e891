// Goal: whenever it ends, by a kill or a power cut, an image is whole up to leaked clusters, with all data of the last
// flush and every snapshot; while a snapshot is made it may say instead that it has to be counted anew. Bitmaps that
// say that they are good are. Method: moments of recorded histories, and power cuts at each of them.
import { describe, expect, test } from 'vitest';
import { Qcow2History } from '../../testing/qcow2-history.ts';
import { SeededRandom } from '../../testing/seeded-random.ts';
import { KiB } from '../../units.ts';
import { checkQcow2 } from './check/check.ts';
import { INCOMPATIBLE } from './format.ts';
import { readQcow2Header } from './header.ts';

/** Power cuts tried at each moment, besides the kill. */
const CUTS = 3;
/** Moments looked at in each history, evenly; by hand all of them were. */
const MOMENTS = 20;

function spread(moments: readonly number[]): number[] {
  const stride = Math.max(1, Math.ceil(moments.length / MOMENTS));
  return moments.filter((_, index) => index % stride === 0);
}

describe.each([512, 4 * KiB, 64 * KiB])('clusters of %i bytes', clusterBytes => {
  test.each([
    { seed: 1, bitmap: false },
    { seed: 2, bitmap: true },
    { seed: 3, bitmap: false },
  ])('a history: %o', { timeout: 120_000 }, async ({ seed, bitmap }) => {
    const random = new SeededRandom(seed * 1000 + clusterBytes);
    const history = new Qcow2History(random);
    await history.play({ clusterBytes, steps: clusterBytes === 512 ? 12 : 25, bitmap });
    const { begin, file } = history;
    const all = Array.from({ length: file.moments - begin + 1 }, (_, index) => begin + index);
    const risky = file.beforeFlushes.filter(moment => moment >= begin);
    for (const moment of new Set([...spread(all), ...spread(risky)])) {
      for (let cut = 0; cut <= CUTS; cut++) {
        const left = await file.at(moment, cut === 0 ? undefined : random);
        const what = `seed ${seed}, moment ${moment} of ${file.moments}, cut ${cut}`;
        const { incompatibleFeatures } = await readQcow2Header(left);
        if ((incompatibleFeatures & INCOMPATIBLE.dirty) === 0n) {
          const { corruptions, checkErrors, findings } = await checkQcow2(left);
          if (corruptions + checkErrors > 0) expect(findings, what).toEqual([]);
        }
        expect(await history.judge(left, moment), what).toEqual([]);
      }
    }
  });
});
