// The `raw` driver: the bytes of its file, or a window of them.
import {
  type ChildPermissions,
  type Edge,
  EngineError,
  filterPermissions,
  PERMISSION,
  RawImage,
  SECTOR_BYTES,
} from '@tidemark/engine';
import { z } from 'zod';
import { defineDriver } from './blockdev-driver.ts';
import { byteCount } from './option-types.ts';

const options = z.object({ offset: byteCount.optional(), size: byteCount.optional() });

export const rawDriver = defineDriver({
  name: 'raw',
  options,
  children: { file: { role: 'file', required: true } },
  permissions: filterPermissions,
  permissionsFor: ({ offset, size }) =>
    offset || size !== undefined ? windowPermissions : filterPermissions,
  strongOptions: ['offset', 'size'],
  async open({ options: { offset = 0, size }, children }) {
    return openWindow(children.file!, { offset, size });
  },
  reopen({ blockdev, options: { offset = 0, size } }) {
    const file = blockdev.node.children[0]!;
    return { driver: openWindow(file, { offset, size }), commit() {}, abort() {} };
  },
});

/** A window lies where it lies: its file must keep its size. */
const windowPermissions: ChildPermissions = (...about) => {
  const { uses, shares } = filterPermissions(...about);
  return { uses, shares: shares & ~PERMISSION.resize };
};

function openWindow(file: Edge, window: { offset: number; size: number | undefined }): RawImage {
  const { offset, size } = window;
  assertWindow(offset, size, file.sizeBytes);
  const sizeBytes = size === undefined ? {} : { sizeBytes: size };
  return RawImage.open(file, { offsetBytes: offset, ...sizeBytes, keepChildren: true, wholeSectors: true });
}

function assertWindow(offset: number, size: number | undefined, fileBytes: number): void {
  if (offset > fileBytes) {
    throw invalid(`Offset (${offset}) cannot be greater than size of the containing file (${fileBytes})`);
  }
  if (size === undefined) return;
  if (size > fileBytes - offset) {
    throw invalid(
      `The sum of offset (${offset}) and size (${size}) has to be smaller or equal to the  actual size of ` +
        `the containing file (${fileBytes})`,
    );
  }
  if (size % SECTOR_BYTES !== 0) throw invalid(`Specified size is not multiple of ${SECTOR_BYTES}`);
}

function invalid(text: string): EngineError {
  return new EngineError('invalid-argument', text, { hint: 'Look at the size of the file.' });
}
