// Goal: tidemark-image answers as qemu-img does: output, exit codes, and the images that come of it. Method: the
// same command lines for both, on images made alike.
import { FileNode, PERMISSION } from '@tidemark/engine';
import { expect, onTestFinished } from 'vitest';
import { testWith } from '../../src/testing/tools.ts';
import { ImageToolPair } from './image-tool-pair.ts';

const TOOLS = ['qemu-img', 'qemu-io'] as const;
const words = (text: string) => text.split(' ');

/** A disk, an overlay of it that is larger, a compressed copy, a raw disk, and a chain with an odd end. */
async function makeImages(pair: ImageToolPair): Promise<void> {
  await pair.both('qemu-img', ...words('create -q -f qcow2 @a 4M'));
  const writes = ['write -q -P 3 0 128k', 'write -q -z 1M 64k', 'write -q -P 7 2M 4k', 'write -q -z 64k 64k'];
  await pair.both('qemu-io', '-f', 'qcow2', ...writes.flatMap(write => ['-c', write]), '@a');
  await pair.both('qemu-img', ...words('create -q -f qcow2 -b @a -F qcow2 @b 8M'));
  const more = ['write -q -P 9 64k 64k', 'write -q -z 128k 64k', 'discard -q 3M 64k'];
  await pair.both('qemu-io', '-f', 'qcow2', ...more.flatMap(write => ['-c', write]), '@b');
  await pair.both('qemu-img', ...words('convert -c -f qcow2 -O qcow2 @a @z'));
  await pair.both('truncate', '-s', '4M', '@r');
  await pair.both('qemu-io', '-f', 'raw', '-c', 'write -q -P 5 1M 64k', '@r');
  await pair.both('truncate', '-s', '1000', '@odd');
  await pair.both('qemu-img', ...words('create -q -f qcow2 -b @odd -F raw @over-odd 4M'));
  await pair.both('qemu-img', ...words('create -q -f qcow2 -o compat=0.10 -b @r -F raw @old'));
  await pair.both('qemu-io', '-f', 'qcow2', '-c', 'write -q 1M 4k', '@old');
  await pair.both('qemu-img', ...words('create -q -f qcow2 -o cluster_size=512 @tiny 4M'));
  await pair.both('qemu-io', '-f', 'qcow2', '-c', 'write -q 1M 100k', '@tiny');
}

testWith(TOOLS, 'create makes the same images and refuses the same', async () => {
  const pair = await ImageToolPair.make();
  for (const line of [
    '-f raw @raw 4M',
    '-f qcow2 @a 4M',
    '-q -f qcow2 -b @a -F qcow2 @b',
    '-f qcow2 -b @a -F qcow2 @c 8M',
    '-f qcow2 -o cluster_size=4k,compression_type=zstd,lazy_refcounts=on,refcount_bits=8 @d 1G',
    '@e 1000',
    '-f qcow2 @f 1001',
    '-u -f qcow2 -b none -F raw @g 1M',
    '-o preallocation=full -f raw @h 1M',
    '-o preallocation=falloc -f raw @i 1M',
    '-f qcow2 -o size=2M @j',
    '-f qcow2 -o backing_file=@raw,backing_fmt=raw @k',
    '-f qcow2 @l 1.5G',
    '-f qcow2 -o compat=0.10 @m 1M',
    '-f qcow2 -o preallocation=metadata @n 4M',
    '-f qcow2 @o 8T',
  ]) {
    expect((await pair.same(['create', ...words(line)])).code).toBe(0);
    const name = line.split(' ').findLast(word => word.startsWith('@'))!;
    if (!line.includes('none')) await pair.same(['info', '--output=json', '--backing-chain', name]);
    await pair.same(['info', name]);
  }
  for (const line of [
    '-f qcow2 -b @a @x',
    '-f qcow2 -o foo=1 @x 1G',
    '-f foo @x 1G',
    '-f qcow2 @x',
    '-f qcow2 @x abc',
    '-f qcow2 @x -5',
    '-f qcow2 /nowhere/x 1M',
    '-f qcow2 -b none -F raw @x',
    '-u -f qcow2 -b none -F raw @x',
    '-f qcow2 -o cluster_size=3k @x 1M',
    '-f qcow2 -o compat=foo @x 1M',
    '-f qcow2 -o refcount_bits=3 @x 1M',
    '-f qcow2 -o compat=0.10,refcount_bits=1 @x 1M',
    '-f qcow2 -o lazy_refcounts=foo @x 1M',
    '-f qcow2 -o preallocation=foo @x 1M',
    '-f raw -b @a @x',
    '-f qcow2 @x 100P',
    '-z',
    '@x 1 2',
  ]) {
    expect((await pair.same(['create', ...words(line)])).code).toBe(1);
  }
  await pair.same(['create']);
  await pair.same(['foo']);
});

testWith(TOOLS, 'info and map tell the same of raw disks, chains and compressed images', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  for (const name of ['@a', '@b', '@z', '@r', '@odd', '@over-odd', '@old', '@tiny']) {
    await pair.same(['info', name]);
    await pair.same(['info', '--output=json', name]);
    await pair.same(['info', '--output=json', '--backing-chain', name]);
    await pair.same(['map', '--output=json', name]);
    await pair.same(['map', name]);
  }
  for (const line of [
    'info @nothere',
    'info',
    'info -f foo @r',
    'info -f qcow2 @r',
    'info --output=foo @r',
    'info -fraw -U @r',
    'info @a @b',
    'map',
    'map -s 1M -l 100 --output=json @b',
    'map -f raw --output=json --start-offset=1M --max-length=32k @r',
    'map --start-offset=5M @r',
    'map --output=json --start-offset=5M @r',
    'map --max-length=-1 @r',
    'map @nothere',
  ]) {
    await pair.same(words(line));
  }
});

testWith(TOOLS, 'map tells the holes of images whose clusters were placed in advance', async () => {
  const pair = await ImageToolPair.make();
  for (const [name, options] of [
    ['@metadata', 'preallocation=metadata'],
    ['@small', 'preallocation=metadata,cluster_size=4k'],
    ['@falloc', 'preallocation=falloc'],
    ['@full', 'preallocation=full'],
  ] as const) {
    await pair.both('qemu-img', ...words(`create -q -f qcow2 -o ${options} ${name} 4M`));
    await pair.same(['map', '--output=json', name]);
    const io = ['write -q -z 1M 64k', 'write -q -P 3 2M 64k', 'write -q -zu 3M 64k'].flatMap(one => [
      '-c',
      one,
    ]);
    await pair.both('qemu-io', '-f', 'qcow2', ...io, name);
    await pair.same(['map', '--output=json', name]);
    await pair.same(['map', name]);
  }
  await pair.same(words('compare -s @metadata @full'));
});

testWith(TOOLS, 'compare finds the same first difference', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  await pair.both('qemu-img', ...words('convert -O raw @a @a-raw'));
  await pair.both('truncate', '-s', '5M', '@long');
  await pair.both(
    'qemu-io',
    '-f',
    'raw',
    '-c',
    'write -q -P 5 1M 64k',
    '-c',
    'write -q -P 1 4609k 1k',
    '@long',
  );
  for (const line of [
    '@a @a-raw',
    '@a @r',
    '-q @a @r',
    '@r @long',
    '-s @r @long',
    '-s @a @a-raw',
    '-s @r @a',
    '-s @z @a',
    '@a @nothere',
    '-f raw -F raw @a @a-raw',
    '-f foo @a @b',
    '@a',
    '@a @b',
    '@b @a',
    '@z @a',
    '@z @a-raw',
    '@over-odd @odd',
    '@old @r',
    '-U @a @a',
    '@a @b @z',
  ]) {
    await pair.same(['compare', ...words(line)]);
  }
});

testWith(TOOLS, 'check counts the same, and its repair leaves a clean image', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  for (const line of [
    '@a',
    '--output=json @b',
    '@z',
    '--output=json @z',
    '--output=json @tiny',
    '@old',
    '@r',
    '--output=json @r',
    '-f qcow2 @r',
    '@nothere',
    '-q @a',
    '-r foo @a',
    '-r leaks @a',
    '-r all --output=json @a',
    '@a @b',
  ]) {
    await pair.same(['check', ...words(line)]);
  }
  await pair.both('qemu-io', '-f', 'qcow2', '-c', 'discard -q 0 64k', '@a');
  await setRefcount(pair, 5, 1);
  const leak = await pair.same(words('check --output=json @a'), { errors: false });
  expect(leak).toMatchObject({ code: 3, out: { leaks: 1 } });
  await pair.same(words('check @a'), { errors: false });
  await pair.same(words('check -r leaks @a'), { errors: false });
  expect(await pair.same(words('check @a'))).toMatchObject({ code: 0 });
  await setRefcount(pair, 7, 0);
  const corrupt = await pair.same(words('check --output=json @a'), { errors: false });
  expect(corrupt).toMatchObject({ code: 2, out: { corruptions: 2 } });
  expect(await pair.ours(words('check -r all @a'))).toMatchObject({ code: 0 });
  await pair.both('qemu-img', ...words('check -q -r all @a'));
  await pair.sameContents('a');
});

/** Of the cluster of that number, in both sides' `a`. */
async function setRefcount(pair: ImageToolPair, cluster: number, count: number): Promise<void> {
  const script =
    'import struct,sys; f=open(sys.argv[1],"r+b"); f.seek(48); t=struct.unpack(">Q",f.read(8))[0]; f.seek(t); ' +
    'b=struct.unpack(">Q",f.read(8))[0]; f.seek(b+2*int(sys.argv[2])); f.write(bytes([0,int(sys.argv[3])]))';
  await pair.both('python3', '-c', script, '@a', String(cluster), String(count));
}

testWith(TOOLS, 'resize and rebase change the same', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  for (const line of [
    'resize @a 8M',
    'resize @a +1M',
    'resize @a -- -1M',
    'resize @a -1M',
    'resize @a 1M',
    'resize --shrink @a 1M',
    'resize -q @a 2M',
    'resize @a 1000000',
    'resize -f raw @r 1000',
    'resize -f raw @r 5M',
    'resize --shrink -f raw @r 1000',
    'resize @a foo',
    'resize @a',
    'resize --preallocation=foo @a 3M',
    'resize --preallocation=metadata @a 3M',
    'resize --preallocation=full @a 4M',
    'create -q -f qcow2 @fresh 2M',
    'resize --preallocation=metadata @fresh 4M',
    'map --output=json @fresh',
    'check --output=json @fresh',
    'resize -f raw --preallocation=falloc @r 2M',
    'resize -f raw --preallocation=metadata @r 3M',
    'resize @a +0',
    'resize @a 0',
    'resize @nothere 1M',
    'resize --shrink @a 0',
    'info @a',
    'info @r',
    'rebase -u -b @r -F raw @b',
    'info @b',
    'rebase -u -b @r @b',
    'rebase @b',
    'rebase -u -b @r -F foo @b',
    'rebase -u -b x -F raw -f raw @r',
    'rebase -u -b nothere -F raw @b',
    'info @b',
    'map @b',
  ]) {
    await pair.same(words(line));
  }
  await pair.same(['rebase', '-u', '-b', '', '@b']);
  await pair.same(words('info @b'));
  await pair.sameContents('a');
  await pair.sameContents('b');
});

testWith(TOOLS, 'snapshots are taken, applied and deleted alike', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  for (const line of [
    'snapshot -l @a',
    'snapshot -c one @a',
    'snapshot -a foo @a',
    'snapshot -d foo @a',
    'snapshot -l -c x @a',
    'snapshot @a',
    'snapshot',
    'snapshot -l @r',
    'check --output=json @a',
  ]) {
    await pair.same(words(line));
  }
  await pair.both('qemu-io', '-f', 'qcow2', '-c', 'write -q -P 4 0 128k', '@a');
  await pair.same(words('snapshot -q -c two @a'));
  await pair.same(words('snapshot -a one @a'));
  await pair.sameContents('a');
  await pair.same(words('snapshot -a 2 @a'));
  await pair.sameContents('a');
  await pair.same(words('snapshot -d one @a'));
  await pair.same(words('check --output=json @a'));
  const info = await pair.ours(words('info --output=json @a'));
  const { snapshots } = JSON.parse(String(info.out));
  expect(snapshots).toMatchObject([{ id: '2', name: 'two', 'vm-state-size': 0 }]);
});

testWith(TOOLS, 'bitmaps are added, changed, merged, removed and copied alike', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  await pair.both('qemu-img', ...words('create -q -f qcow2 @c 4M'));
  await pair.both('qemu-img', ...words('bitmap --add @c other'));
  await pair.both('qemu-io', '-f', 'qcow2', '-c', 'write -q 2M 64k', '@c');
  for (const line of [
    '--add @a b0',
    '--add @a b0',
    '--add -g 512 @a b1',
    '--add -g 1k --disable @a b2',
    '--remove @a nope',
    '--disable @a b0',
    '--enable @a b0',
    '--clear @a b0',
    '--merge b1 @a b0',
    '--merge nope @a b0',
    '--merge other -b @c -F qcow2 @a b0',
    '--add --merge b0 @a b4',
    '--remove @a b1',
    '-g 3 --add @a x',
    '-g 1k @a x',
    '--clear -g 1k @a b0',
    '@a',
    '--add @nothere b',
    '--add @a',
    '--add @a b0 x',
    '--add -g foo @a x',
    '--add -b @c -F qcow2 @a b9',
    '--merge b0 -F qcow2 @a b9',
    '--remove --add @a b4',
  ]) {
    await pair.same(['bitmap', ...words(line)]);
    await pair.same(words('info --output=json @a'));
  }
  await pair.same(words('info @a'));
  await pair.same(words('check --output=json @a'), { errors: false });
  for (const line of [
    '--bitmaps -O raw @a @x',
    '--bitmaps -O qcow2 @a @c @x',
    '--skip-broken-bitmaps -O qcow2 @a @x',
    '--bitmaps -O qcow2 @a @copy',
  ]) {
    await pair.same(['convert', ...words(line)]);
  }
  await pair.same(words('info --output=json @copy'));
  await pair.sameContents('copy');
  // Their bits, too: each tool reads what the other one wrote.
  for (const name of ['b0', 'b4']) {
    await pair.same(words(`bitmap --add --merge ${name} -b @copy -F qcow2 @c from-${name}`));
  }
  await pair.same(words('info --output=json @c'));
  await pair.same(words('resize @a 8M'));
  await pair.same(words('info --output=json @a'));
});

testWith(TOOLS, 'an image that somebody writes to is left alone, and looked at when told so', async () => {
  const pair = await ImageToolPair.make();
  await makeImages(pair);
  for (const side of ['qemu', 'tidemark'] as const) {
    const file = await FileNode.open(pair.path(side, 'a'), { locking: 'permissions' });
    onTestFinished(() => file.close());
    const { consistentRead, write, resize } = PERMISSION;
    file.setPermissions({ uses: consistentRead | write | resize, shares: consistentRead });
  }
  for (const line of [
    'info @a',
    'check @a',
    'map @a',
    'compare @a @r',
    'convert -O raw @a @x',
    'convert -O qcow2 @r @a',
    'create -f qcow2 @a 1M',
    'resize @a 5M',
    'snapshot -c x @a',
    'bitmap --add @a x',
    'rebase -u -b @r -F raw @a',
  ]) {
    expect((await pair.same(words(line))).code, line).toBeGreaterThan(0);
  }
  for (const line of [
    'info -U @a',
    'map -U --output=json @a',
    'compare -U @a @r',
    'convert -U -O raw @a @x',
  ]) {
    await pair.same(words(line));
  }
});
