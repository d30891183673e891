// Goal: no change goes on before its region is on the disk, none waits without need, and no region leaves the disk
// while changes rely on it. Method: a log whose writes end when the test says so.
import { Bitmap } from '@tidemark/engine';
import { settled } from '@tidemark/engine/testing';
import { expect, test } from 'vitest';
import { regionNumbers } from './intent-file.ts';
import { WriteIntents } from './write-intents.ts';

const REGION = 64 * 1024;
const REGIONS = 64;

class HeldLog {
  readonly intents: WriteIntents;
  /** What the last write that ended holds. */
  disk: number[] = [];
  writes = 0;
  distrusts = 0;
  #end: ((error?: Error) => void) | undefined;

  constructor({ ahead = 0, distrust = async () => {} } = {}) {
    this.intents = new WriteIntents({
      scope: { volumeId: 'v', sizeBytes: REGION * REGIONS, regionBytes: REGION },
      regionsAhead: ahead,
      write: regions => {
        this.writes++;
        return new Promise((resolve, reject) => {
          this.#end = error => {
            this.#end = undefined;
            if (error !== undefined) return reject(error);
            this.disk = [...regionNumbers(regions)];
            resolve();
          };
        });
      },
      distrust: async () => {
        this.distrusts++;
        await distrust();
      },
    });
  }

  /** Lets the write under way end. */
  async end(error?: Error): Promise<void> {
    await settled();
    this.#end!(error);
    await settled();
  }

  get isWriting(): boolean {
    return this.#end !== undefined;
  }

  /** Whether a change has gone on: at once, later, or not yet. */
  change(region: number, regions = 1): { isOn: boolean; wasAtOnce: boolean; error?: unknown } {
    const wait = this.intents.before(region * REGION + 100, (regions - 1) * REGION + 10);
    const state: ReturnType<HeldLog['change']> = { isOn: wait === undefined, wasAtOnce: wait === undefined };
    wait?.then(
      () => {
        state.isOn = true;
      },
      error => {
        state.error = error;
      },
    );
    return state;
  }
}

test('a change waits for its region, later ones in it do not; all that come together share one write', async () => {
  const log = new HeldLog();
  const changes = [3, 9, 9, 40].map(region => log.change(region));
  expect(changes.some(({ isOn }) => isOn)).toBe(false);
  await settled();
  expect(changes.some(({ isOn }) => isOn)).toBe(false);
  await log.end();
  expect(changes.every(({ isOn }) => isOn)).toBe(true);
  expect([log.disk, log.writes]).toEqual([[3, 9, 40], 1]);
  expect(log.change(9).wasAtOnce).toBe(true);
  expect(log.writes).toBe(1);
});

test('a change that comes while the log is written waits for that write or the next, as its region wants', async () => {
  const log = new HeldLog();
  log.change(1);
  await settled();
  const [same, other, both] = [log.change(1), log.change(2), log.change(1, 3)];
  await log.end();
  expect([same.isOn, other.isOn, both.isOn]).toEqual([true, false, false]);
  await log.end();
  expect([other.isOn, both.isOn]).toEqual([true, true]);
  expect(log.disk).toEqual([1, 2, 3]);
});

test('a region leaves when nobody has changed it since the bits were copied, and comes back with a wait', async () => {
  const log = new HeldLog();
  log.change(1);
  log.change(2);
  await log.end();
  const round = log.intents.nextRound();
  log.change(2);
  const retired = log.intents.retire(round);
  const back = log.change(1);
  expect(back.isOn).toBe(false);
  await log.end();
  await retired;
  expect(log.disk).toEqual([1, 2]);
  expect(back.isOn).toBe(true);
  expect(log.change(2).wasAtOnce).toBe(true);
});

test('what leaves while the log is written does not count as logged by that write', async () => {
  const log = new HeldLog();
  log.change(1);
  await log.end();
  log.change(5);
  await settled();
  // This write has region 1 in it; while it is under way the region goes, and somebody comes.
  const retired = log.intents.retire(log.intents.nextRound());
  const back = log.change(1);
  await log.end();
  expect(back.isOn).toBe(false);
  await log.end();
  await retired;
  expect([back.isOn, log.disk]).toEqual([true, [1, 5]]);
});

test('a change whose granules are stored as dirty needs no region, and one that is partly so does', async () => {
  const log = new HeldLog();
  const bits = new Bitmap(REGION * REGIONS, 4096);
  bits.set(7 * REGION, 4096);
  log.intents.setStored(bits);
  expect(log.change(7).wasAtOnce).toBe(true);
  expect(log.intents.before(7 * REGION + 4000, 200)).toBeDefined();
  await log.end();
  log.intents.setStored(undefined);
  expect(log.change(8).wasAtOnce).toBe(false);
  await log.end();
});

test('a sequential writer waits once: the regions before it are logged while it writes', async () => {
  const log = new HeldLog({ ahead: 8 });
  log.change(0);
  await log.end();
  log.change(1);
  await log.end();
  expect(log.disk).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  for (let region = 2; region < REGIONS; region++) {
    expect(log.change(region).wasAtOnce, `region ${region}`).toBe(true);
    await settled();
    if (log.isWriting) await log.end();
  }
  expect(log.writes).toBeLessThan(2 + REGIONS / 4 + 2);
});

test('random writers are not taken for sequential ones', async () => {
  const log = new HeldLog({ ahead: 8 });
  for (const region of [50, 20, 35, 3]) {
    log.change(region);
    await log.end();
  }
  expect(log.disk).toEqual([3, 20, 35, 50]);
});

test('a log that cannot be written is given up before the change goes on', async () => {
  let release: (() => void) | undefined;
  const log = new HeldLog({ distrust: () => new Promise(resolve => (release = resolve)) });
  const change = log.change(4);
  await log.end(new Error('EIO'));
  expect([change.isOn, log.distrusts]).toEqual([false, 1]);
  release!();
  await settled();
  expect([change.isOn, log.intents.givenUp, log.change(5).wasAtOnce]).toEqual([true, true, true]);
});

test('where not even that can be stored the change fails, and the next one tries again', async () => {
  const log = new HeldLog({
    distrust: async () => {
      throw new Error('EROFS');
    },
  });
  const change = log.change(4);
  await log.end(new Error('EIO'));
  expect(change).toMatchObject({ isOn: false, error: new Error('EROFS') });
  const again = log.change(4);
  await log.end();
  expect(again.isOn).toBe(true);
});

test('a failed write that only takes regions out fails nobody', async () => {
  const log = new HeldLog();
  log.change(1);
  await log.end();
  const retired = log.intents.retire(log.intents.nextRound());
  await log.end(new Error('EIO'));
  await retired;
  expect([log.distrusts, log.disk]).toEqual([0, [1]]);
  expect(log.change(1).wasAtOnce).toBe(false);
  await log.end();
});
