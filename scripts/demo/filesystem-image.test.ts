// Goal: the image is a sound filesystem that holds the files, a day's change costs few blocks, and the disk
// becomes the image byte by byte. Method: a small tree, both formats, a disk in memory behind an NBD server.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileTree } from './file-tree.ts';
import { ext4Format, FilesystemImage, tarFormat } from './filesystem-image.ts';
import { writeImage } from './image-writer.ts';
import { serveMemoryDisk } from './testing/memory-disk.ts';
import { findTool, runTool } from './tool.ts';

const FILES = 200;
const OFFSET = 1024 * 1024;
const IMAGE_BYTES = 24 * 1024 * 1024;
let folder: string;
let source: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tidemark-image-'));
  source = join(folder, 'source');
  mkdirSync(join(source, 'deep', 'node_modules'), { recursive: true });
  mkdirSync(join(source, '.git'));
  writeFileSync(join(source, '.git', 'config'), 'left out');
  symlinkSync('/etc/passwd', join(source, 'link'));
  for (let index = 0; index < FILES; index += 1) {
    writeFileSync(join(source, 'deep', `file-${index}`), `${index}\n`.repeat(1 + index * 20));
  }
});

afterEach(() => rmSync(folder, { recursive: true }));

async function imageOf(format: ReturnType<typeof tarFormat>): Promise<FilesystemImage> {
  const image = join(folder, 'image');
  mkdirSync(image);
  return FilesystemImage.make({ from: source, folder: image, day: 'monday', format });
}

const tools = { mkfs: findTool('mkfs.ext4'), debugfs: findTool('debugfs'), e2fsck: findTool('e2fsck') };
const ext4 = () => ext4Format({ mkfs: tools.mkfs!, debugfs: tools.debugfs!, sizeBytes: IMAGE_BYTES });
const allTools = Object.values(tools).every(tool => tool !== null);
if (process.env.CI) test('e2fsprogs is installed', () => expect(allTools).toBe(true));

test.skipIf(!allTools)('an ext4 image is sound, before and after a change of few blocks', async () => {
  const image = await imageOf(ext4());
  const monday = image.path;
  const change = await image.change('tuesday');
  expect(change.edited.length + change.removed.length + change.added.length).toBeGreaterThan(30);
  for (const path of [monday, image.path]) {
    const { code, messages } = await runTool(tools.e2fsck!, ['-fn', path]);
    expect(code, messages).toBe(0);
  }
  const read = async (file: string) =>
    (await runTool(tools.debugfs!, ['-R', `cat /${file}`, image.path])).messages;
  expect(await read(change.edited[0]!)).toContain('Edited on tuesday.');
  expect(await read(change.added[0]!)).toContain('Added on tuesday.');
  expect(await read(change.removed[0]!)).toContain('File not found');
  const disk = await serveMemoryDisk(OFFSET + IMAGE_BYTES);
  try {
    const first = { uri: disk.uri, offset: OFFSET, image: monday, previous: null };
    const whole = await writeImage(first);
    expect(disk.bytes.subarray(OFFSET).equals(readFileSync(monday))).toBe(true);
    const changed = await writeImage({ ...first, image: image.path, previous: monday });
    expect(disk.bytes.subarray(OFFSET).equals(readFileSync(image.path))).toBe(true);
    expect(disk.written()).toBe(whole + changed);
    expect(changed).toBeLessThan(1024 * 1024);
    expect(changed).toBeGreaterThan(30 * 4096);
  } finally {
    await disk.close();
  }
});

test.skipIf(!allTools)('a change that the filesystem did not take is an error', async () => {
  const format = ext4();
  const image = await imageOf(format);
  const change = { folder: 'new', added: [], edited: [], removed: ['no-such-file'] };
  await expect(format.update(image.tree, image.path, change)).rejects.toThrow('File not found');
});

test('a tar stands in where there is no ext4', async () => {
  const tar = findTool('tar')!;
  const image = await imageOf(tarFormat({ tar, sizeBytes: IMAGE_BYTES }));
  const monday = image.path;
  const change = await image.change('tuesday');
  expect(readFileSync(image.path).length).toBe(IMAGE_BYTES);
  const { messages } = await runTool(tar, ['-xOf', image.path, `./${change.edited[0]}`]);
  expect(messages).toContain('Edited on tuesday.');
  expect(readFileSync(monday).equals(readFileSync(image.path))).toBe(false);
});

test('a copied tree keeps to its bound, leaves out what is no file, and never touches the source', async () => {
  const before = join(folder, 'before');
  cpSync(source, before, { recursive: true, verbatimSymlinks: true });
  mkdirSync(join(source, 'state'));
  writeFileSync(join(source, 'state', 'secret'), 'left out');
  const options = { bytesMax: 100_000, leaveOut: join(source, 'state') };
  const tree = await FileTree.copy(source, join(folder, 'tree'), options);
  expect(tree.bytes).toBeLessThanOrEqual(100_000);
  expect(tree.bytes).toBeGreaterThan(90_000);
  expect(() => readFileSync(join(tree.folder, '.git', 'config'))).toThrow();
  expect(() => readFileSync(join(tree.folder, 'link'))).toThrow();
  expect(() => readFileSync(join(tree.folder, 'state', 'secret'))).toThrow();
  await tree.change('tuesday');
  for (let index = 0; index < FILES; index += 1) {
    const file = join('deep', `file-${index}`);
    expect(readFileSync(join(source, file)).equals(readFileSync(join(before, file)))).toBe(true);
  }
});
