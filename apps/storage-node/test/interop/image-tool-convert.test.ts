// Goal: images that `convert` makes have the contents that qemu-img's have, are clean, and take bounded memory and
// no more time than the data asks for, however large the disk. Method: the same conversions by both.
import { execFile } from 'node:child_process';
import { open } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect } from 'vitest';
import { testWith } from '../../src/testing/tools.ts';
import { ImageToolPair } from './image-tool-pair.ts';

const run = promisify(execFile);
const TOOLS = ['qemu-img', 'qemu-io'] as const;
const words = (text: string) => text.split(' ');
const MiB = 1024 * 1024;
const TiB = 1024 * 1024 * MiB;
const RESIDENT_MAX_KIB = 256 * 1024;
const CHAIN_LAYERS = 12;

async function makeImages(pair: ImageToolPair): Promise<void> {
  await pair.both('qemu-img', ...words('create -q -f qcow2 @a 4M'));
  const writes = ['write -q -P 3 0 128k', 'write -q -z 1M 64k', 'write -q -P 7 2M 4k', 'write -q -z 64k 64k'];
  await pair.both('qemu-io', '-f', 'qcow2', ...writes.flatMap(write => ['-c', write]), '@a');
  await pair.both('qemu-img', ...words('create -q -f qcow2 -b @a -F qcow2 @b 8M'));
  const more = ['write -q -P 9 64k 64k', 'write -q -z 128k 64k'];
  await pair.both('qemu-io', '-f', 'qcow2', ...more.flatMap(write => ['-c', write]), '@b');
  await pair.both('truncate', '-s', '4M', '@r');
  await pair.both('qemu-io', '-f', 'raw', '-c', 'write -q -P 5 1M 64k', '@r');
  await pair.both('truncate', '-s', '1000', '@odd');
  await pair.both('truncate', '-s', '1M', '@small');
  await pair.both('cp', '@r', '@there');
}

testWith(TOOLS, 'conversions give the same contents, and the same is refused', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  let count = 0;
  for (const line of [
    '-f qcow2 -O raw @a',
    '@a',
    '-O qcow2 @a',
    '-O qcow2 -c @a',
    '-O qcow2 -c -o compression_type=zstd @b',
    '-O qcow2 -c -o cluster_size=2M @b',
    '-O qcow2 -o cluster_size=512 @a',
    '-O qcow2 -o backing_file=@a,backing_fmt=qcow2 @b',
    '-O qcow2 -B @a -F qcow2 @b',
    '-O qcow2 @a @r',
    '-O raw @a @r @b',
    '-O qcow2 -c @r @a',
    '-O qcow2 -o preallocation=metadata @a',
    '-O qcow2 -o compat=0.10,refcount_bits=16 @b',
    '-O qcow2 -S 64k @r',
    '-S 0 -O raw @a',
    '-S 0 -O qcow2 @a',
    '-W -m 16 -t none -T none -O raw @b',
    '-m 1 -O qcow2 @b',
    '-O raw @odd',
    '-O qcow2 @odd',
  ]) {
    const output = `out${count++}`;
    expect((await pair.same(['convert', ...words(line), `@${output}`])).code).toBe(0);
    const format = line.includes('-O qcow2') ? 'qcow2' : 'raw';
    await pair.sameContents(output, format);
    if (format === 'qcow2') await pair.same(['info', '--output=json', `@${output}`]);
  }
  await pair.same(words('convert -n -O raw @a @there'));
  await pair.sameContents('there', 'raw');
  for (const line of [
    '-O foo @a @x',
    '-O qcow2 @a /nowhere/x',
    '@a',
    '@nothere @x',
    '-O raw -c @a @x',
    '-n -O raw @a @small',
    '-n -O raw @a @nothere',
    '-O qcow2 -B @a @b @x',
    '-S 3 @a @x',
    '-m 99 @a @x',
    '-t foo -O raw @a @x',
    '--target-is-zero -O raw @a @x',
  ]) {
    expect((await pair.same(['convert', ...words(line)])).code).toBe(1);
  }
});

testWith(TOOLS, 'a chain is flattened, mapped and compared as by qemu-img', async () => {
  const pair = await ImageToolPair.make();
  await pair.both('qemu-img', ...words('create -q -f raw @layer0 16M'));
  for (let layer = 1; layer < CHAIN_LAYERS; layer++) {
    const below = [`@layer${layer - 1}`, '-F', layer === 1 ? 'raw' : 'qcow2'];
    await pair.both('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', ...below, `@layer${layer}`);
    const at = `${layer}M`;
    const io = [`write -q -P ${layer} ${at} 100k`, `write -q -z 0 ${layer * 8}k`].flatMap(one => ['-c', one]);
    await pair.both('qemu-io', '-f', 'qcow2', ...io, `@layer${layer}`);
  }
  const top = `@layer${CHAIN_LAYERS - 1}`;
  await pair.same(['map', '--output=json', top]);
  await pair.same(['info', '--output=json', '--backing-chain', top]);
  await pair.same(['convert', '-O', 'qcow2', '-c', top, '@flat']);
  await pair.sameContents('flat');
  await pair.same(['compare', top, '@flat']);
});

testWith(TOOLS, 'a disk of 8 TiB is made, mapped, compared and converted in bounded memory', async () => {
  const pair = await ImageToolPair.make();
  await pair.same(words('create -f qcow2 @huge 8T'));
  const io = ['write -q -P 1 7T 4M', 'write -q -P 2 1T 4M', 'write -q -P 3 0 4M'].flatMap(one => ['-c', one]);
  await pair.both('qemu-io', '-f', 'qcow2', ...io, '@huge');
  await pair.same(words('map --output=json @huge'));
  await pair.same(words('check --output=json @huge'), { errors: false });
  const raw = pair.path('tidemark', 'raw');
  const file = await open(raw, 'w');
  await file.truncate(8 * TiB);
  await file.write(Buffer.alloc(MiB, 5), 0, MiB, 5 * TiB);
  await file.close();
  const huge = pair.path('tidemark', 'huge');
  for (const line of [
    ['convert', '-O', 'qcow2', '-c', huge, `${huge}-2`],
    ['compare', huge, `${huge}-2`],
    ['convert', '-f', 'raw', '-O', 'qcow2', raw, `${raw}-2`],
    ['check', '-q', `${huge}-2`],
    ['map', '--output=json', `${raw}-2`],
  ]) {
    expect(await residentKib(line), line.join(' ')).toBeLessThan(RESIDENT_MAX_KIB);
  }
  await run('qemu-img', ['compare', '-q', huge, `${huge}-2`]);
});

/** At most, of the command as users start it; rejects where it fails. */
async function residentKib(line: readonly string[]): Promise<number> {
  const main = fileURLToPath(new URL('../../src/image-tool/main.ts', import.meta.url));
  const report = new URL('./report-memory.mjs', import.meta.url).href;
  const { stderr } = await run(process.execPath, ['--import', report, main, ...line], { timeout: 120_000 });
  return Number(/resident (\d+) KiB/.exec(stderr)![1]);
}
