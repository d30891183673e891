// Goal: our client gets on with the servers people run. Method: the same steps against each.
import type { ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, expect, it } from 'vitest';
import { NbdClient } from '../../src/index.ts';
import { describeWithTools, scratch, serve, stop, tool } from './tools.ts';

const MiB = 1 << 20;
const files = scratch();
let child: ChildProcess | undefined;
let client: NbdClient | undefined;
afterEach(async () => {
  client?.destroy();
  if (child !== undefined) await stop(child);
});
afterAll(() => files.remove());

/** Writes in many ways and reads everything back. */
async function exercise(nbd: NbdClient): Promise<void> {
  const data = Buffer.alloc(3 * MiB);
  for (let at = 0; at < data.byteLength; at += 4) data.writeUInt32LE((at * 2654435761) >>> 0, at);
  await nbd.write(MiB, data, { fua: true });
  await Promise.all(
    Array.from({ length: 300 }, (_, i) => nbd.write(5 * MiB + i * 512, Buffer.alloc(512, i))),
  );
  await nbd.writeZeroes(MiB + 65_536, 65_536);
  data.fill(0, 65_536, 131_072);
  await nbd.flush();
  await nbd.cache(0, MiB);
  await nbd.trim(8 * MiB, MiB);
  const back = Buffer.alloc(data.byteLength);
  await nbd.read(MiB, back);
  expect(back.equals(data)).toBe(true);
  const small = Buffer.alloc(512);
  for (const i of [0, 150, 299]) {
    await nbd.read(5 * MiB + i * 512, small);
    expect(small.equals(Buffer.alloc(512, i))).toBe(true);
  }
  await expect(nbd.read(nbd.sizeBytes, Buffer.alloc(512))).rejects.toMatchObject({ name: 'NbdError' });
  await nbd.read(0, small);
}

describeWithTools('nbdkit', ['nbdkit'], () => {
  it.each([[], ['--no-sr']])('serves our client %s', async (...flags: string[]) => {
    const path = files.path(`nbdkit${flags.length}.sock`);
    child = await serve('nbdkit', ['-f', '-U', path, ...flags, 'memory', '16M'], path);
    client = await NbdClient.connect({ path, exportName: '' }, { contexts: ['base:allocation'] });
    expect(client).toMatchObject({ sizeBytes: 16 * MiB, readOnly: false });
    await exercise(client);
    if (flags.length === 0) {
      const extents = [];
      for await (const extent of client.extents('base:allocation', 0, client.sizeBytes)) extents.push(extent);
      expect(extents[0]).toMatchObject({ offset: 0, flags: 3 });
      expect(extents.reduce((sum, extent) => sum + extent.length, 0)).toBe(client.sizeBytes);
    } else expect(client.contexts).toEqual([]);
    await client.disconnect();
  });
});

describeWithTools('qemu-nbd', ['qemu-nbd', 'qemu-img'], () => {
  it('serves our client, a dirty bitmap included', async () => {
    const image = files.path('disk.qcow2');
    const path = files.path('qemu.sock');
    await tool('qemu-img', ['create', '-f', 'qcow2', image, '16M']);
    await tool('qemu-img', ['bitmap', '--add', image, 'monday']);
    child = await serve('qemu-nbd', ['-t', '-f', 'qcow2', '-k', path, '-x', 'disk', image], path);
    client = await NbdClient.connect({ path, exportName: 'disk' });
    await exercise(client);
    await client.disconnect();
    await stop(child);
    child = await serve(
      'qemu-nbd',
      ['-t', '-r', '-f', 'qcow2', '-k', path, '-x', 'disk', '-B', 'monday', '-A', image],
      path,
    );
    const contexts = ['base:allocation', 'qemu:dirty-bitmap:monday', 'qemu:allocation-depth'];
    client = await NbdClient.connect({ path, exportName: 'disk' }, { contexts });
    expect(client.contexts).toHaveLength(3);
    expect(client.readOnly).toBe(true);
    expect(await client.blockStatus('qemu:dirty-bitmap:monday', 0, 4 * MiB)).toEqual([
      { offset: 0, length: MiB, flags: 0 },
      { offset: MiB, length: 3 * MiB, flags: 1 },
    ]);
    expect((await client.blockStatus('qemu:allocation-depth', MiB, 512))[0]).toMatchObject({
      length: 512,
      flags: 1,
    });
    // One client at a time is what qemu-nbd serves unless told otherwise.
    await client.disconnect();
    await expect(NbdClient.connect({ path, exportName: 'other' })).rejects.toMatchObject({
      reply: 'ERR_UNKNOWN',
    });
  });
});

describeWithTools('qemu-storage-daemon', ['qemu-storage-daemon', 'qemu-img'], () => {
  it('serves our client, and what it wrote is in the image', async () => {
    const image = files.path('qsd.raw');
    const path = files.path('qsd.sock');
    await tool('qemu-img', ['create', '-f', 'raw', image, '16M']);
    const args = [
      '--blockdev',
      `driver=file,node-name=d,filename=${image}`,
      '--nbd-server',
      `addr.type=unix,addr.path=${path}`,
    ];
    child = await serve(
      'qemu-storage-daemon',
      [...args, '--export', 'type=nbd,id=e,node-name=d,name=d,writable=on'],
      path,
    );
    client = await NbdClient.connect({ path, exportName: 'd' });
    await exercise(client);
    await client.disconnect();
    expect(readFileSync(image).readUInt32LE(MiB + 4)).toBe((4 * 2654435761) >>> 0);
  });
});
