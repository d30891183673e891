// Goal: a chain opens as its headers say and no other way, and a refusal leaves nothing open.
// Method: real files in a folder of their own; what is left open is found by opening for writing.
import fs from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { makeTemporaryFolder } from '../testing/temporary-folder.ts';
import { KiB, MiB } from '../units.ts';
import { openImage } from './open-image.ts';
import { createQcow2 } from './qcow2/create.ts';
import { HEADER } from './qcow2/format.ts';
import { createRawFile } from './raw-image.ts';

const folder = makeTemporaryFolder();
afterAll(() => folder.remove());

async function make(name: string, backing?: { path: string; format: 'raw' | 'qcow2' }): Promise<string> {
  const path = folder.file(name);
  await createQcow2(path, backing === undefined ? { sizeBytes: MiB } : { sizeBytes: MiB, backing });
  return path;
}

/** Takes the name of the backing format out of the header: its extension becomes an unknown one. */
function dropBackingFormat(path: string): void {
  const file = fs.openSync(path, 'r+');
  fs.writeSync(file, Buffer.from([0x12, 0x34, 0x56, 0x78]), 0, 4, 112);
  fs.closeSync(file);
}

describe('format', () => {
  test('is detected for the first image, or as the caller says', async () => {
    const path = await make('detected.qcow2');
    const detected = await openImage(path);
    expect(detected.driver).toBe('qcow2');
    await detected.close();
    const raw = await openImage(path, { format: 'raw' });
    expect(raw.driver).toBe('raw');
    expect(raw.sizeBytes).toBe(fs.statSync(path).size);
    await raw.close();
  });

  test('of a backing image counts only where the header names it', async () => {
    await make('inner.qcow2');
    const outer = await make('outer.qcow2', { path: 'inner.qcow2', format: 'qcow2' });
    await (await openImage(outer)).close();
    dropBackingFormat(outer);
    await expect(openImage(outer)).rejects.toMatchObject({
      kind: 'invalid-format',
      message: expect.stringContaining('inner.qcow2'),
    });
    await (await openImage(folder.file('inner.qcow2'))).close();
  });

  test('not named, a backing image that looks like nothing is raw', async () => {
    await createRawFile(folder.file('plain.raw'), MiB);
    const outer = await make('over-plain.qcow2', { path: 'plain.raw', format: 'raw' });
    dropBackingFormat(outer);
    const image = await openImage(outer);
    const data = Buffer.alloc(4 * KiB, 1);
    await image.read(0, data);
    expect(data.every(byte => byte === 0)).toBe(true);
    await image.close();
  });
});

describe('backing images', () => {
  test('relative names start at the folder of the image, through links too', async () => {
    fs.mkdirSync(folder.file('deep'));
    await createRawFile(folder.file('deep/base.raw'), MiB);
    const outer = await make('deep/over.qcow2', { path: 'base.raw', format: 'raw' });
    fs.symlinkSync(outer, folder.file('link.qcow2'));
    await (await openImage(folder.file('link.qcow2'))).close();
  });

  test('one that is missing is named together with who needs it', async () => {
    const outer = await make('orphan.qcow2', { path: 'gone.raw', format: 'raw' });
    const opening = openImage(outer);
    await expect(opening).rejects.toMatchObject({ kind: 'not-found' });
    await expect(opening).rejects.toThrow(/gone\.raw.*orphan\.qcow2/);
  });

  test('a loop is refused, and nothing stays open', async () => {
    await make('loop-a.qcow2', { path: 'loop-b.qcow2', format: 'qcow2' });
    await make('loop-b.qcow2', { path: 'loop-a.qcow2', format: 'qcow2' });
    await expect(openImage(folder.file('loop-a.qcow2'))).rejects.toMatchObject({
      kind: 'invalid-format',
      message: expect.stringContaining('its own backing image'),
    });
    const raw = await openImage(folder.file('loop-a.qcow2'), { format: 'raw' });
    await raw.close();
  });

  test('a chain of 300 is refused', async () => {
    await createRawFile(folder.file('long.raw'), MiB);
    let previous: { path: string; format: 'raw' | 'qcow2' } = { path: 'long.raw', format: 'raw' };
    for (let index = 0; index < 300; index++) {
      await make(`long-${index}.qcow2`, previous);
      previous = { path: `long-${index}.qcow2`, format: 'qcow2' };
    }
    await expect(openImage(folder.file('long-299.qcow2'))).rejects.toMatchObject({ kind: 'invalid-format' });
    const image = await openImage(folder.file('long-200.qcow2'));
    await image.close();
  });

  test('a name that is no path of this machine is refused', async () => {
    const outer = await make('remote.qcow2', { path: 'nbd://host/export', format: 'raw' });
    await expect(openImage(outer)).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('nbd://host/export'),
    });
  });
});

test('errors of what the file holds name the file', async () => {
  const path = await make('broken.qcow2');
  const file = fs.openSync(path, 'r+');
  fs.writeSync(file, Buffer.from([0xff, 0xff, 0xff, 0xff]), 0, 4, HEADER.l1Size);
  fs.closeSync(file);
  await expect(openImage(path, { format: 'qcow2' })).rejects.toMatchObject({
    kind: 'invalid-format',
    message: expect.stringContaining(path),
    context: { path, offset: HEADER.l1Size },
  });
});
