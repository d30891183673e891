// Does with an image whatever can be done with one. What it is not able to do must end in an engine error that says
// where; anything else is a fault of the driver.
import { EngineError } from '../errors.ts';
import { checkQcow2 } from '../image/qcow2/check/check.ts';
import { Qcow2Image } from '../image/qcow2/qcow2-image.ts';
import { KiB } from '../units.ts';
import { GuardedNode } from './guarded-node.ts';
import type { SeededRandom } from './seeded-random.ts';

const SAMPLE_BYTES = 64 * KiB;

/** How each of the ways ended: 'done' or the kind of the error. Rejects with what must not happen. */
export async function exerciseQcow2(content: Buffer, random: SeededRandom): Promise<Record<string, string>> {
  const file = new GuardedNode(content);
  return {
    read: await attempt(() => readOnly(file, random)),
    check: await attempt(() => checkQcow2(file)),
    write: await attempt(() => writeTo(new GuardedNode(content), random)),
    snapshots: await attempt(() => useSnapshots(new GuardedNode(content))),
    repair: await attempt(() => checkQcow2(file, { repair: random.pick(['leaks', 'all'] as const) })),
    reopened: await attempt(() => writeTo(file, random)),
  };
}

async function attempt(task: () => Promise<unknown>): Promise<string> {
  try {
    await task();
    return 'done';
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const saysWhere = /\d/.test(error.message) || error.context.offset !== undefined;
    const mustSayWhere = error.kind === 'corrupt' || error.kind === 'invalid-format';
    if (mustSayWhere && !saysWhere) throw new Error(`does not say where: ${error.message}`, { cause: error });
    return error.kind;
  }
}

async function readOnly(file: GuardedNode, random: SeededRandom): Promise<void> {
  const image = await Qcow2Image.open(file, { readOnly: true, ignoreBacking: true, keepChildren: true });
  await image.snapshots();
  image.takeBitmaps();
  for (const offset of samples(image, random)) {
    await image.read(offset, Buffer.alloc(Math.min(SAMPLE_BYTES, image.sizeBytes - offset)));
    await image.extents(offset, Math.min(SAMPLE_BYTES, image.sizeBytes - offset));
  }
  await image.close();
}

async function writeTo(file: GuardedNode, random: SeededRandom): Promise<void> {
  const image = await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true });
  try {
    for (const offset of samples(image, random)) {
      const length = Math.min(random.int(1, 16) * 512, image.sizeBytes - offset);
      await image.write(offset, random.bytes(length));
      await image.discard(offset, Math.min(SAMPLE_BYTES, image.sizeBytes - offset));
      await image.writeZeroes(offset, length, { mayUnmap: random.chance(0.5) });
    }
    if (image.sizeBytes >= image.clusterSizeBytes) {
      await image.writeCompressed(0, Buffer.alloc(image.clusterSizeBytes, 1));
    }
    await image.resize(image.sizeBytes + image.clusterSizeBytes);
  } finally {
    await image.close();
  }
}

async function useSnapshots(file: GuardedNode): Promise<void> {
  const image = await Qcow2Image.open(file, { ignoreBacking: true, keepChildren: true });
  try {
    await image.storeBitmaps(image.takeBitmaps().slice(1));
    const { id } = await image.createSnapshot({ name: 'new', dateNanoseconds: 0n });
    const [first] = await image.snapshots();
    if (image.storedBitmaps.length > 0) await image.storeBitmaps([]);
    await image.applySnapshot(first!.id);
    await image.deleteSnapshot(id);
  } finally {
    await image.close();
  }
}

/** Both ends of the disk, and anywhere. */
function samples(image: Qcow2Image, random: SeededRandom): number[] {
  const last = Math.floor((image.sizeBytes - 1) / 512);
  if (last < 0) return [];
  return [0, Math.max(0, last - 100), random.int(0, last), random.int(0, Math.min(last, 511))].map(
    at => at * 512,
  );
}
