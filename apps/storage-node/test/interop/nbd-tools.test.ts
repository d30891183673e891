// Goal: a volume's export is what other people's NBD tools expect of one. Method: a whole storage node, and
// nbdinfo, nbdcopy, qemu-img and qemu-io as its guests.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Volume } from '@tidemark/proto';
import { describe, expect } from 'vitest';
import { MiB } from '../../src/testing/backups.ts';
import { createVolume, readDisk, withGuest } from '../../src/testing/live-volume.ts';
import { newStep, RunningStorageNode } from '../../src/testing/running-storage-node.ts';
import { temporaryFolder } from '../../src/testing/temporary-folder.ts';
import { runTool, testWith } from '../../src/testing/tools.ts';
import { RawClient } from './raw-client.ts';

const KiB = 1024;
const CLUSTER = 64 * KiB;

async function makeVolume(
  format = 'raw',
): Promise<{ node: RunningStorageNode; volume: Volume; uri: string }> {
  const node = await RunningStorageNode.start();
  const volume = await createVolume(node, { name: 'disk', format, sizeBytes: 32 * MiB });
  return { node, volume, uri: volume.exportUri };
}

interface MapEntry {
  offset: number;
  length: number;
  type: number;
}

async function mapOf(
  uri: string,
  context: string,
): Promise<[offset: number, length: number, type: number][]> {
  const entries = JSON.parse(await runTool('nbdinfo', `--map=${context}`, '--json', uri)) as MapEntry[];
  return entries.map(({ offset, length, type }) => [offset, length, type]);
}

/** Commands of one session, each of which must succeed; gives what they printed. */
async function qemuIo(uri: string, ...commands: string[]): Promise<string> {
  const output = await runTool('qemu-io', '-f', 'raw', ...commands.flatMap(text => ['-c', text]), uri);
  expect(output).not.toMatch(/failed|error/i);
  return output;
}

describe('nbdinfo', () => {
  testWith(['nbdinfo'], 'sees size, contexts and block sizes', async () => {
    const { uri } = await makeVolume();
    const { exports } = JSON.parse(await runTool('nbdinfo', '--json', uri));
    expect(exports).toMatchObject([
      { 'export-size': 32 * MiB, is_read_only: false, can_multi_conn: true, can_fua: true, can_zero: true },
    ]);
    expect(exports[0].contexts).toEqual(['base:allocation', 'qemu:allocation-depth']);
    const list = JSON.parse(await runTool('nbdinfo', '--list', '--json', uri));
    expect(list.exports.map((found: { 'export-name': string }) => found['export-name'])).toEqual(['disk']);
  });

  testWith(['nbdinfo'], 'maps what is allocated and what changed since each checkpoint', async () => {
    const { node, volume, uri } = await makeVolume();
    const ids: string[] = [];
    await withGuest(uri, guest => guest.write(1 * MiB, randomBytes(2 * MiB)));
    for (const [index, offset] of [8 * MiB + 5, 20 * MiB].entries()) {
      const checkpointId = randomUUID();
      ids.push(checkpointId);
      const { volumeId } = volume;
      const request = { step: newStep(), volumeId, checkpointId, name: `c${index}` };
      await node.clients.checkpoints.createCheckpoint(request);
      await withGuest(uri, guest => guest.write(offset, randomBytes(CLUSTER)));
    }
    expect(await mapOf(uri, 'base:allocation')).toEqual([
      [0, 1 * MiB, 3],
      [1 * MiB, 2 * MiB, 0],
      [3 * MiB, 5 * MiB, 3],
      // What the filesystem allocated for two writes, in its own blocks.
      [8 * MiB, CLUSTER + 4 * KiB, 0],
      [8 * MiB + CLUSTER + 4 * KiB, 12 * MiB - CLUSTER - 4 * KiB, 3],
      [20 * MiB, CLUSTER, 0],
      [20 * MiB + CLUSTER, 12 * MiB - CLUSTER, 3],
    ]);
    expect(await mapOf(uri, `qemu:dirty-bitmap:${ids[0]}`)).toEqual([
      [0, 8 * MiB, 0],
      [8 * MiB, 2 * CLUSTER, 1],
      [8 * MiB + 2 * CLUSTER, 12 * MiB - 2 * CLUSTER, 0],
      [20 * MiB, CLUSTER, 1],
      [20 * MiB + CLUSTER, 12 * MiB - CLUSTER, 0],
    ]);
    expect(await mapOf(uri, `qemu:dirty-bitmap:${ids[1]}`)).toEqual([
      [0, 20 * MiB, 0],
      [20 * MiB, CLUSTER, 1],
      [20 * MiB + CLUSTER, 12 * MiB - CLUSTER, 0],
    ]);
  });
});

describe('nbdcopy', () => {
  testWith(['nbdcopy'], 'copies in and out over four connections, byte for byte', async () => {
    const { uri } = await makeVolume();
    const folder = await temporaryFolder();
    const content = Buffer.concat([randomBytes(10 * MiB), Buffer.alloc(12 * MiB), randomBytes(10 * MiB)]);
    await writeFile(join(folder, 'in'), content);
    await writeFile(join(folder, 'out'), '');
    await runTool('nbdcopy', '--connections=4', '--flush', join(folder, 'in'), uri);
    expect((await readDisk(uri)).equals(content)).toBe(true);
    await runTool('nbdcopy', '--connections=4', uri, join(folder, 'out'));
    expect((await readFile(join(folder, 'out'))).equals(content)).toBe(true);
  });
});

describe('qemu', () => {
  for (const format of ['raw', 'qcow2']) {
    testWith(
      ['qemu-img', 'qemu-io'],
      `converts, compares and runs its benchmark on a ${format} volume`,
      async () => {
        const { uri } = await makeVolume(format);
        const folder = await temporaryFolder();
        const image = join(folder, 'disk.qcow2');
        await writeFile(
          join(folder, 'disk.raw'),
          Buffer.concat([randomBytes(5 * MiB), Buffer.alloc(27 * MiB)]),
        );
        const convert = ['convert', '-f', 'raw', '-O', 'raw', '-n'];
        await runTool('qemu-img', ...convert, join(folder, 'disk.raw'), uri);
        await runTool('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uri, image);
        const compared = await runTool('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', image, uri);
        expect(compared).toContain('Images are identical');
        for (const write of [[], ['-w']]) {
          await runTool(
            'qemu-img',
            'bench',
            ...write,
            '-f',
            'raw',
            '-c',
            '2000',
            '-d',
            '16',
            '-s',
            '4096',
            uri,
          );
        }
        await runTool(
          'qemu-img',
          'bench',
          '-w',
          '--flush-interval=50',
          '-f',
          'raw',
          '-c',
          '500',
          '-d',
          '8',
          uri,
        );
      },
    );
  }

  testWith(['qemu-io'], 'writes and verifies patterns, aligned or not, zeroes and discards', async () => {
    const { uri } = await makeVolume();
    const commands = [
      'write -P 0xa5 1M 64k',
      'write -P 0x5a 1234567 4321',
      'aio_write -P 0x11 4M 256k',
      'aio_write -P 0x22 5M 512',
      'aio_flush',
      'write -z -u 1M 4k',
      'discard 4M 64k',
      'read -P 0 1M 4k',
      'read -P 0xa5 1052672 4k',
      'read -P 0x5a 1234567 4321',
      'read -P 0x11 4259840 64k',
      'read -P 0x22 5M 512',
      'read -P 0 30M 2M',
    ];
    const output = await qemuIo(uri, ...commands);
    expect(output.match(/^read \d+\/\d+ bytes/gm)).toHaveLength(6);
  });

  testWith(['qemu-io'], 'is refused what lies past the end, and goes on', async () => {
    const { uri } = await makeVolume();
    await expect(qemuIo(uri, 'read 33554176 1k')).rejects.toThrow();
    // Tools check a request themselves before they send it: these are sent byte by byte.
    const wire = await RawClient.connect(uri);
    const [READ, WRITE, TRIM, ZEROES] = [0, 1, 4, 6];
    const [EINVAL, ENOSPC] = [22, 28];
    expect(await wire.request(READ, 32 * MiB - 511, 512)).toBe(EINVAL);
    expect(await wire.request(READ, 2 ** 62, 512)).toBe(EINVAL);
    expect(await wire.request(WRITE, 32 * MiB, 512)).toBe(ENOSPC);
    expect(await wire.request(ZEROES, 32 * MiB, 512)).toBe(ENOSPC);
    expect(await wire.request(TRIM, 32 * MiB, 1)).toBe(EINVAL);
    expect(await wire.request(WRITE, 32 * MiB - 512, 512)).toBe(0);
    wire.close();
    await qemuIo(uri, 'read -P 0x78 33553920 512');
    expect(await readDisk(uri)).toHaveLength(32 * MiB);
  });
});

testWith(['qemu-io', 'nbdcopy'], 'several clients at once see one disk', async () => {
  const { uri } = await makeVolume('qcow2');
  const clients = [1, 2, 3, 4, 5, 6, 7, 8];
  // Neighbours share a cluster.
  const place = (client: number) => `${client * MiB + 4097} ${MiB}`;
  await Promise.all(clients.map(client => qemuIo(uri, `write -P ${client} ${place(client)}`, 'flush')));
  const copy = join(await temporaryFolder(), 'copy');
  await Promise.all([
    runTool('nbdcopy', '--connections=4', uri, copy),
    ...clients.map(client => qemuIo(uri, `read -P ${client} ${place(client)}`)),
  ]);
  const content = await readFile(copy);
  for (const client of clients) {
    const start = client * MiB + 4097;
    expect(content.subarray(start, start + MiB).equals(Buffer.alloc(MiB, client))).toBe(true);
  }
});
