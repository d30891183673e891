// What it costs guests that dirty bits survive crashes: the same writes to a volume with a checkpoint, whose
// write-intent log is at work, and to one without, which has none, in turn. Each turn begins with a new checkpoint, so
// that nothing is logged or stored yet: the dearest moment there is.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { StorageNodeProcess } from '../process/storage-node-process.ts';
import { requests, timed, verifyWrites } from './load.ts';
import { run } from './program.ts';
import type { Scale } from './scale.ts';
import type { Row } from './throughput.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const SEQUENTIAL_BYTES = 256 * KiB;

export const INTENT_SIDES = ['without a checkpoint', 'with a checkpoint and its log'] as const;

interface Side {
  readonly volumeId: string;
  readonly uri: string;
  readonly path: string;
  /** Before each measurement. */
  prepare(): Promise<void>;
}

/** One row a load, with one list of measurements a side. Rejects where the two disks differ in the end. */
export async function measureWriteIntents(
  storageNode: StorageNodeProcess,
  { scale, onProgress }: { scale: Scale; onProgress(text: string): void },
): Promise<Row[]> {
  const { intentBytes: rangeBytes } = scale;
  const sides = [
    await makeSide(storageNode, rangeBytes, false),
    await makeSide(storageNode, rangeBytes, true),
  ];
  try {
    for (const { uri } of sides) await verifyWrites(uri, Math.min(64 * MiB, rangeBytes));
    // The first time the file system gives room to each disk, at the speed of the machine's own.
    for (const { uri } of sides) await fill(uri, rangeBytes);
    const sequential = await inTurn(sides, scale.rounds, async ({ uri }, round) => {
      onProgress(`sequential writes: round ${round + 1} of ${scale.rounds}`);
      return rangeBytes / MiB / (await timed(() => fill(uri, rangeBytes)));
    });
    const random = await inTurn(sides, scale.rounds, async ({ uri }, round) => {
      onProgress(`random writes: round ${round + 1} of ${scale.rounds}`);
      const load = { blockBytes: 4 * KiB, depth: 16, seconds: scale.intentSeconds, rangeBytes };
      return (await requests({ uri, operation: 'randwrite', ...load })).requestsPerSecond;
    });
    await prove(storageNode, sides, rangeBytes);
    return [
      { title: '4 KiB random write, 16 deep', unit: 'requests/s', values: random },
      { title: `sequential overwriting of ${rangeBytes / MiB} MiB`, unit: 'MiB/s', values: sequential },
    ];
  } finally {
    for (const { volumeId } of sides)
      await storageNode.clients.volumes.deleteVolume({ step: step(), volumeId });
  }
}

/** Nobody always comes first, and the disk is at rest at each start. */
async function inTurn(
  sides: readonly Side[],
  rounds: number,
  measure: (side: Side, round: number) => Promise<number>,
): Promise<number[][]> {
  const values = sides.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < sides.length; turn++) {
      const index = (turn + round) % sides.length;
      await sides[index]!.prepare();
      await run('sync', []);
      values[index]!.push(await measure(sides[index]!, round));
    }
  }
  return values;
}

/** Blocks that say where they belong. */
function fill(uri: string, rangeBytes: number): Promise<string> {
  return run('fio', [
    ...[
      '--name=bench',
      '--ioengine=nbd',
      `--uri=${uri}`,
      '--rw=write',
      `--bs=${SEQUENTIAL_BYTES}`,
      '--thread',
    ],
    ...['--iodepth=16', `--size=${rangeBytes}`],
    ...['--verify=pattern', '--verify_pattern=%o', '--do_verify=0', '--verify_state_save=0'],
  ]);
}

/** The same writes have left the same disk, and every byte of it is called changed. */
async function prove(
  storageNode: StorageNodeProcess,
  sides: readonly Side[],
  rangeBytes: number,
): Promise<void> {
  await sides[1]!.prepare();
  for (const { uri } of sides) await fill(uri, rangeBytes);
  await run(
    'cmp',
    sides.map(({ path }) => path),
  );
  const { volumeId } = sides[1]!;
  const { checkpoints } = await storageNode.clients.checkpoints.listCheckpoints({ volumeId });
  const { changedSinceBytes, grownBytes } = checkpoints.at(-1)!;
  if (changedSinceBytes === rangeBytes && grownBytes === 0) return;
  throw new Error(`${changedSinceBytes} of ${rangeBytes} bytes are called changed, ${grownBytes} as grown.`);
}

async function makeSide(storageNode: StorageNodeProcess, sizeBytes: number, tracked: boolean): Promise<Side> {
  const volumeId = randomUUID();
  const { volumes, checkpoints } = storageNode.clients;
  const request = { step: step(), volumeId, name: `intents-${tracked}`, sizeBytes, format: 'raw' };
  const { exportUri: uri } = await volumes.createVolume(request);
  let checkpointId: string | undefined;
  const prepare = async (): Promise<void> => {
    if (!tracked) return;
    if (checkpointId !== undefined) {
      await checkpoints.deleteCheckpoint({ step: step(), volumeId, checkpointId });
    }
    checkpointId = randomUUID();
    await checkpoints.createCheckpoint({ step: step(), volumeId, checkpointId, name: checkpointId });
  };
  return { volumeId, uri, path: join(storageNode.stateDir, 'volumes', volumeId, 'disk.raw'), prepare };
}

function step() {
  return { runId: randomUUID(), step: 'bench', leaseEpoch: 1 };
}
