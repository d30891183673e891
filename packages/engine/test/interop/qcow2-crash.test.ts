// What a kill or a power cut leaves at any moment, in the eyes of the real qemu-img: leaked clusters at most. Where the
// image says that it has to be counted anew, it is whole once it was opened for writing.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { afterAll, expect } from 'vitest';
import { FileNode } from '../../src/image/file-node.ts';
import { INCOMPATIBLE } from '../../src/image/qcow2/format.ts';
import { readQcow2Header } from '../../src/image/qcow2/header.ts';
import { Qcow2Image } from '../../src/image/qcow2/qcow2-image.ts';
import type { MemoryNode } from '../../src/testing/memory-node.ts';
import { Qcow2History } from '../../src/testing/qcow2-history.ts';
import { SeededRandom } from '../../src/testing/seeded-random.ts';
import { makeTemporaryFolder } from '../../src/testing/temporary-folder.ts';
import { KiB } from '../../src/units.ts';
import { testWithTools } from './tools.ts';

const testWithImg = testWithTools(['qemu-img']);
const folder = makeTemporaryFolder();
afterAll(() => folder.remove());
/** Moments looked at in each history, evenly. */
const MOMENTS = 40;

function save(node: MemoryNode, path: string): void {
  const fd = fs.openSync(path, 'w');
  fs.ftruncateSync(fd, node.sizeBytes);
  for (let at = 0; at < node.sizeBytes; ) {
    for (const { offset, length, data } of node.extents(at, node.sizeBytes - at)) {
      at = offset + length;
      if (!data) continue;
      const bytes = Buffer.alloc(length);
      node.read(offset, bytes);
      fs.writeSync(fd, bytes, 0, length, offset);
    }
  }
  fs.closeSync(fd);
}

/** What is wrong beside leaks. */
function faults(path: string): string {
  const { stdout, stderr, status } = spawnSync('qemu-img', ['check', '-f', 'qcow2', '--output=json', path], {
    encoding: 'utf8',
  });
  const from = stdout.indexOf('{');
  if (from < 0) return `qemu-img check ended with ${status}: ${stderr}`;
  const report = JSON.parse(stdout.slice(from)) as Record<string, number>;
  return report.corruptions || report['check-errors'] ? stderr + stdout : '';
}

for (const clusterBytes of [512, 4 * KiB, 64 * KiB]) {
  for (const bitmap of [false, true]) {
    const title = `clusters of ${clusterBytes}, ${bitmap ? 'with' : 'without'} a bitmap`;
    testWithImg(title, async () => {
      const random = new SeededRandom(77 + clusterBytes);
      const history = new Qcow2History(random);
      await history.play({ clusterBytes, steps: 25, bitmap });
      const { begin, file } = history;
      const moments = file.beforeFlushes.filter(moment => moment >= begin);
      const stride = Math.max(1, Math.floor(moments.length / MOMENTS));
      for (let index = 0; index < moments.length; index += stride) {
        const moment = moments[index]!;
        const path = folder.file('left.qcow2');
        save(await file.at(moment, index % 3 === 0 ? undefined : random), path);
        const node = await FileNode.open(path);
        const { incompatibleFeatures } = await readQcow2Header(node);
        if ((incompatibleFeatures & INCOMPATIBLE.dirty) !== 0n) {
          await (await Qcow2Image.open(node)).close();
        } else await node.close();
        expect(faults(path), `moment ${moment} of ${file.moments}`).toBe('');
      }
    });
  }
}
