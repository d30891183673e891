// Data and holes of an open file, as lseek(2) tells them.
import { appendExtent, type Extent } from '../extent.ts';
import { EXTENTS_PER_CALL_MAX } from '../limits.ts';
import { SEEK_DATA, SEEK_HOLE, seekSync } from './syscalls.ts';

/** At most EXTENTS_PER_CALL_MAX of them; past the end is a hole. Throws a system error. */
export function extentsOfFile(fd: number, offset: number, length: number): Extent[] {
  const end = offset + length;
  const extents: Extent[] = [];
  try {
    for (let position = offset; position < end && extents.length < EXTENTS_PER_CALL_MAX; ) {
      const data = seekSync(fd, position, SEEK_DATA) ?? end;
      const isHole = data > position;
      const stop = isHole ? data : (seekSync(fd, position, SEEK_HOLE) ?? end);
      const next = Math.min(stop, end);
      appendExtent(extents, fileExtent(position, next - position, !isHole));
      position = next;
    }
  } catch (error) {
    // A filesystem without holes answers EINVAL: all of it is data.
    if ((error as NodeJS.ErrnoException).code === 'EINVAL') return [fileExtent(offset, length, true)];
    throw error;
  }
  return extents;
}

/** A file has no layer below it: holes too are its own, as QEMU reports them. */
function fileExtent(offset: number, length: number, data: boolean): Extent {
  return { offset, length, data, zero: !data, depth: 1 };
}
