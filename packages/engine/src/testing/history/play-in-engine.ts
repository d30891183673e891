// Plays a history to the engine itself: real block graph, transactions, filter, job and bitmaps over a source and
// a target that hold every request. The twelve invariants are looked at after every step, and after every single
// request while a backup runs.
import { SeededRandom } from '../seeded-random.ts';
import { BackupRun } from './backup-run.ts';
import type { CopyingStep } from './copying.ts';
import { DISK_BYTES } from './history.ts';
import { Violation } from './verdict.ts';
import { DISK, World } from './world.ts';

/** Rejects with a Violation that tells which invariant does not hold. */
export async function playInEngine(steps: readonly CopyingStep[]): Promise<void> {
  const world = new World();
  for (const [index, step] of steps.entries()) {
    await play(world, step, `backup${index}`);
    checkUntrusted(world);
  }
  await close(world);
}

async function play(world: World, step: CopyingStep, name: string): Promise<void> {
  const random = new SeededRandom(0);
  if ('backup' in step) {
    // Its bitmap may have been dropped from a history that is being shrunk.
    if (step.name !== undefined && !world.model.bitmaps.has(step.name)) return;
    return new BackupRun(world, step, name).play();
  }
  if ('guest' in step) {
    world.requests.begin(step);
    return world.drive(random, () => world.requests.count === 0);
  }
  if ('transaction' in step) return world.drive(random, world.beginTransaction(step));
  if ('bitmap' in step) world.bitmap(step);
  else distrust(world, step.unclosed);
  await world.settle();
}

/** As the one who opens an image does whose bitmaps were in use when it was left. */
function distrust(world: World, name: string): void {
  const { bitmaps } = world.graph.get(DISK);
  bitmaps.find(name)?.markInconsistent();
  bitmaps.refresh();
  world.model.distrust(name);
}

/** Nothing but removal is left to do with a bitmap that is not trusted (INV-10). */
function checkUntrusted({ bitmaps, model }: World): void {
  for (const [name, { inconsistent }] of model.bitmaps) {
    if (inconsistent) bitmaps.checkRefusals(name, 'corrupt', {});
  }
}

async function close({ graph, guest, source, model }: World): Promise<void> {
  const bytes = Buffer.alloc(DISK_BYTES);
  source.memory.read(0, bytes);
  if (!bytes.equals(model.bytes)) throw new Violation('model', 'the disk is not what guests wrote');
  await guest.close();
  await graph.remove(DISK);
}
