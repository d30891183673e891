// Goal: the tools people use take our server for any other. Method: each one against a memory export.
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { formatNbdUri, NbdServer } from '../../src/index.ts';
import { MemoryExport } from '../memory-export.ts';
import { describeWithTools, scratch, tool } from './tools.ts';

const MiB = 1 << 20;
const files = scratch();
afterAll(() => files.remove());

function pattern(bytes: number): Buffer {
  const data = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 4) data.writeUInt32LE((at * 2654435761) >>> 0, at);
  data.fill(0, bytes / 4, bytes / 2);
  return data;
}

describeWithTools('our server', ['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io'], () => {
  let server: NbdServer;
  let disk: MemoryExport;
  let uri: string;

  beforeEach(async () => {
    server = new NbdServer();
    disk = new MemoryExport({
      sizeBytes: 16 * MiB,
      description: 'first disk',
      contexts: ['base:allocation', 'qemu:dirty-bitmap:monday'],
    });
    server.addExport(disk);
    server.addExport(new MemoryExport({ name: 'slow', sizeBytes: 4 * MiB, later: true }));
    const address = (await server.listen({ host: '127.0.0.1', port: 0 })) as { host: string; port: number };
    uri = formatNbdUri({ ...address, exportName: 'disk' });
  });
  afterEach(() => server.close());

  it('is described and listed by nbdinfo', async () => {
    const info = JSON.parse(await tool('nbdinfo', ['--json', uri]));
    expect(info.exports[0]).toMatchObject({
      'export-name': 'disk',
      'export-size': 16 * MiB,
      description: 'first disk',
      contexts: ['base:allocation', 'qemu:dirty-bitmap:monday'],
      can_multi_conn: true,
      can_df: true,
      can_fast_zero: true,
      block_size_maximum: 32 * MiB,
    });
    const list = JSON.parse(await tool('nbdinfo', ['--list', '--json', uri.replace(/disk$/, '')]));
    expect(list.exports.map((each: { 'export-name': string }) => each['export-name'])).toEqual([
      'disk',
      'slow',
    ]);
  });

  it('is mapped by nbdinfo in both contexts', async () => {
    await disk.write(MiB, Buffer.alloc(MiB, 1), false);
    type Row = { offset: number; length: number; type: number };
    const map = async (context: string): Promise<number[][]> =>
      JSON.parse(await tool('nbdinfo', [`--map=${context}`, '--json', uri])).map((row: Row) => [
        row.offset,
        row.length,
        row.type,
      ]);
    expect(await map('base:allocation')).toEqual([
      [0, MiB, 3],
      [MiB, MiB, 0],
      [2 * MiB, 14 * MiB, 3],
    ]);
    expect(await map('qemu:dirty-bitmap:monday')).toEqual([
      [0, MiB, 0],
      [MiB, MiB, 1],
      [2 * MiB, 14 * MiB, 0],
    ]);
  });

  it.each(['disk', 'slow'])('copies both ways with nbdcopy and four connections: %s', async name => {
    const target = uri.replace(/disk$/, name);
    const size = name === 'disk' ? 16 * MiB : 4 * MiB;
    writeFileSync(files.path('in.raw'), pattern(size));
    await tool('nbdcopy', ['--connections=4', files.path('in.raw'), target]);
    await tool('nbdcopy', ['--connections=4', target, files.path('out.raw')]);
    expect(readFileSync(files.path('out.raw')).equals(pattern(size))).toBe(true);
  });

  it('is converted and compared by qemu-img', async () => {
    writeFileSync(files.path('in.raw'), pattern(16 * MiB));
    await tool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', files.path('in.raw'), uri]);
    expect(
      await tool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', files.path('in.raw'), uri]),
    ).toContain('identical');
    await tool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, files.path('out.qcow2')]);
    expect(await tool('qemu-img', ['compare', '-F', 'raw', files.path('out.qcow2'), uri])).toContain(
      'identical',
    );
  });

  it('carries qemu-img bench, reading and writing', async () => {
    await tool('qemu-img', ['bench', '-f', 'raw', '-c', '2000', '-d', '32', '-s', '4096', uri]);
    await tool('qemu-img', [
      'bench',
      '-f',
      'raw',
      '-w',
      '-c',
      '500',
      '-d',
      '8',
      '-s',
      '65536',
      '--flush-interval=50',
      uri,
    ]);
  });

  it.each(['disk', 'slow'])('keeps what qemu-io wrote, with many requests at once: %s', async name => {
    const commands = [
      'aio_write -P 17 0 64k',
      'aio_write -P 34 1M 1M',
      'aio_write -z 3M 64k',
      'aio_write -P 51 3000000 1000',
      'aio_flush',
      'aio_read -P 17 0 64k',
      'aio_read -P 34 1M 1M',
      'aio_read -P 51 3000000 1000',
      'aio_flush',
      'write -f -P 68 512 512',
      'read -P 68 512 512',
      'discard 2M 64k',
      'flush',
    ];
    const args = ['-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri.replace(/disk$/, name)];
    expect(await tool('qemu-io', args)).not.toMatch(/fail|error/i);
  });

  it('tells qemu-io what is wrong with a read-only export', async () => {
    server.addExport(new MemoryExport({ name: 'frozen', readOnly: true }));
    await expect(
      tool('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri.replace(/disk$/, 'frozen')]),
    ).rejects.toThrow(/read-only|denied/i);
  });
});
