// Goal: a part of a volume that cannot be read ends a backup with that reason, nothing is left, and the guest goes on
// beside it. Method: a qcow2 volume, one of whose tables is made to point nowhere while its storage node stands still.
import { openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { NbdClient } from '@tidemark/nbd';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { OneDisk } from './testing/one-disk.ts';

const CLUSTER_BYTES = 64 * 1024;
/** Offsets of the header's fields and bits of table entries: QCOW2 specification, "Header" and "Cluster mapping". */
const L1_TABLE_OFFSET_FIELD = 40;
const OFFSET_BITS = 0x00ff_ffff_ffff_fe00n;
/** A host cluster that is not on a cluster's boundary: no reader may follow it. */
const NOWHERE = 0x8000_0000_0000_0200n;

let disk: OneDisk;
beforeAll(async () => {
  disk = await OneDisk.open();
});
afterAll(() => disk.close());

/** Which cluster of the disk lost its data. */
function spoil(path: string): number {
  const file = openSync(path, 'r+');
  const word = Buffer.alloc(8);
  const at = (offset: bigint) => {
    readSync(file, word, 0, 8, Number(offset));
    return word.readBigUInt64BE();
  };
  const table = at(at(BigInt(L1_TABLE_OFFSET_FIELD))) & OFFSET_BITS;
  for (let cluster = 0; ; cluster += 1) {
    const entry = table + BigInt(cluster * 8);
    if ((at(entry) & OFFSET_BITS) === 0n) continue;
    word.writeBigUInt64BE(NOWHERE);
    writeSync(file, word, 0, 8, Number(entry));
    return cluster;
  }
}

test('a source that cannot be read ends its backup, and not its guest', async () => {
  await disk.furnish({ vaultOn: 'beta', format: 'qcow2' });
  await disk.guest.rest();
  await disk.guest.close();
  const { id } = await disk.rest.read('volumes/disk');
  const { stateDir } = disk.stack.nodes.find(({ name }) => name === 'alpha')!;
  await disk.stack.stop();
  const cluster = spoil(join(stateDir, 'volumes', id, 'disk.qcow2'));
  await disk.startServices();

  const { status, body } = await disk.backUp('monday');
  expect(status, JSON.stringify(body)).toBeGreaterThanOrEqual(400);
  expect(['io-error', 'image-invalid']).toContain(body.code);
  expect(await disk.rest.list('backups')).toEqual([]);
  expect(await disk.rest.list('volumes/disk/checkpoints')).toEqual([]);

  const { exportUri } = await disk.rest.read('volumes/disk');
  const guest = await NbdClient.connect({ uri: exportUri });
  const other = (cluster + 1) * CLUSTER_BYTES;
  await guest.write(other, Buffer.alloc(CLUSTER_BYTES, 7));
  await guest.flush();
  const read = Buffer.alloc(CLUSTER_BYTES);
  await guest.read(other, read);
  expect(read.equals(Buffer.alloc(CLUSTER_BYTES, 7))).toBe(true);
  await guest.disconnect();
});
