// Goal: what a volume's checkpoints are worth after each way in which a storage node can have ended, whichever version
// it was. Method: volumes in real folders, whose files are changed between two lives.
import { readFile, writeFile } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { type Attachment, PERMISSION, PERMISSIONS_ALL } from '@tidemark/engine';
import { expect, onTestFinished, test } from 'vitest';
import {
  hostOver,
  makeVolume,
  openVolume,
  REGION_BYTES,
  VOLUME_ID,
} from '../src/testing/power-loss/volume-life.ts';
import { temporaryFolder } from '../src/testing/temporary-folder.ts';
import type { Volume } from '../src/volume/volume.ts';
import { VolumeLayout } from '../src/volume/volume-record.ts';

const GRANULE = 4096;
const layout = new VolumeLayout(VOLUME_ID);

interface Life {
  readonly host: ReturnType<typeof hostOver>;
  readonly volume: Volume;
  readonly guest: Attachment;
}

async function begin(folder: string): Promise<Life> {
  const host = hostOver(folder);
  await host.store.open();
  onTestFinished(() => host.store.close());
  const volume = (await openVolume(host)) ?? (await makeVolume(host, 'raw'));
  const guest = host.graph.attach(volume.node.name, {
    user: 'a guest',
    uses: PERMISSION.consistentRead | PERMISSION.write,
    shares: PERMISSIONS_ALL & ~PERMISSION.resize,
  });
  return { host, volume, guest };
}

async function stop({ host, volume, guest }: Life): Promise<void> {
  await guest.close();
  await volume.close();
  await host.store.close();
}

async function addCheckpoint(volume: Volume, checkpointId: string): Promise<void> {
  await volume.addCheckpoint({
    checkpointId,
    name: checkpointId,
    createdAtMs: 0,
    granularityBytes: GRANULE,
  });
}

/** Checkpoints `a` and `b`; a granule changed since each. */
async function livedIn(folder: string): Promise<void> {
  const life = await begin(folder);
  await addCheckpoint(life.volume, 'a');
  await life.guest.write(0, Buffer.alloc(GRANULE, 1));
  await addCheckpoint(life.volume, 'b');
  await life.guest.write(10 * REGION_BYTES, Buffer.alloc(GRANULE, 1));
  await stop(life);
}

/** As it was left by a version without logs. */
async function makeOld(life: Pick<Life, 'host'>, { clean }: { clean: boolean }): Promise<void> {
  const { store } = life.host;
  const record = JSON.parse(await readFile(store.path(layout.record), 'utf8'));
  await store.write(layout.record, { ...record, version: 1 });
  await store.remove(layout.intents);
  for (const name of ['a', 'b']) {
    const path = store.path(layout.bitmap(name));
    const file = await readFile(path);
    const old = Buffer.concat([file.subarray(0, 32), file.subarray(56)]);
    old.writeUInt32LE(1, 8);
    old.writeUInt32LE(crc32(old.subarray(16)), 12);
    await writeFile(path, old);
  }
  if (clean) await store.write(layout.clean, { version: 1, checkpointId: 'b' });
}

function changed({ volume }: Life) {
  const facts = volume.chain.summaries();
  return facts.map(one => (one.inconsistent ? 'lost' : [one.changedSinceBytes / GRANULE, one.grownBytes]));
}

test('an orderly restart changes nothing, on the disk neither', async () => {
  const folder = await temporaryFolder();
  await livedIn(folder);
  const files = async () => Promise.all([layout.intents, layout.bitmap('b'), layout.record].map(read));
  const read = (name: string) => readFile(`${folder}/${name}`, 'hex');
  const before = await files();
  const life = await begin(folder);
  expect(changed(life)).toEqual([
    [2, 0],
    [1, 0],
  ]);
  await stop(life);
  expect(await files()).toEqual(before);
});

test.each([
  [
    'was stopped in order',
    true,
    [
      [2, 0],
      [1, 0],
    ],
  ],
  ['crashed', false, ['lost', 'lost']],
])(
  'a volume of a version without logs that %s is taken over as that version would',
  async (_what, clean, facts) => {
    const folder = await temporaryFolder();
    await livedIn(folder);
    await makeOld({ host: hostOver(folder) }, { clean });
    const life = await begin(folder);
    expect(changed(life)).toEqual(facts);
    await addCheckpoint(life.volume, 'c');
    await life.guest.write(0, Buffer.alloc(GRANULE, 2));
    await stop(life);
    const again = await begin(folder);
    expect(changed(again)).toEqual([
      ...(clean
        ? [
            [2, 0],
            [2, 0],
          ]
        : ['lost', 'lost']),
      [1, 0],
    ]);
    expect(await again.host.store.list(layout.folder)).not.toContain('clean.json');
    await stop(again);
  },
);

test.each([
  [
    'the recording one’s file is gone',
    (folder: string) => hostOver(folder).store.remove(layout.bitmap('b')),
    1,
  ],
  [
    'its file is the other one’s',
    async (folder: string) => {
      await writeFile(`${folder}/${layout.bitmap('b')}`, await readFile(`${folder}/${layout.bitmap('a')}`));
    },
    1,
  ],
  [
    'the file of one before is gone',
    (folder: string) => hostOver(folder).store.remove(layout.bitmap('a')),
    0,
  ],
])('a bitmap is not believed when %s', async (_what, spoil, lost) => {
  const folder = await temporaryFolder();
  await livedIn(folder);
  await spoil(folder);
  const life = await begin(folder);
  expect(changed(life)).toEqual(lost === 1 ? ['lost', 'lost'] : ['lost', [1, 0]]);
  await stop(life);
});

test('what a crash added goes with the checkpoint that it was added to', async () => {
  const folder = await temporaryFolder();
  const first = await begin(folder);
  await addCheckpoint(first.volume, 'a');
  await addCheckpoint(first.volume, 'b');
  await first.guest.write(0, Buffer.alloc(GRANULE, 1));
  // As a kill leaves it: the guest is gone, nothing is stored.
  await first.guest.close();
  const files = new Map<string, Buffer>();
  for (const name of [layout.intents, layout.bitmap('b')])
    files.set(name, await readFile(`${folder}/${name}`));
  await first.volume.close();
  await first.host.store.close();
  for (const [name, bytes] of files) await writeFile(`${folder}/${name}`, bytes);

  const second = await begin(folder);
  const grown = REGION_BYTES;
  expect(second.volume.chain.grownBytesSince('b')).toBe(grown);
  expect(second.volume.chain.summaries()).toMatchObject([{ grownBytes: grown }, { grownBytes: grown }]);
  await addCheckpoint(second.volume, 'c');
  expect(second.volume.chain.grownBytesSince('c')).toBe(0);
  await second.volume.deleteCheckpoint('b');
  expect(second.volume.chain.grownBytesSince('a')).toBe(grown);
  await stop(second);
  const third = await begin(folder);
  expect(third.volume.chain.summaries()).toMatchObject([{ grownBytes: grown }, { grownBytes: 0 }]);
  await stop(third);
});
