// Ways to break the engine, at least one for each invariant: a checker that lets its own pass proves nothing. Each
// puts itself into a prototype and returns the way back.

import { Bitmap } from '../../src/bitmap/bitmap.ts';
import { DirtyBitmap } from '../../src/bitmap/dirty-bitmap.ts';
import { BlockCopy } from '../../src/copy/block-copy.ts';
import { BufferBudget } from '../../src/copy/buffer-budget.ts';
import { RequestList } from '../../src/copy/request-list.ts';
import { BlockGraph } from '../../src/graph/block-graph.ts';
import { GraphNode } from '../../src/graph/graph-node.ts';
import { BackupJob } from '../../src/job/backup-job.ts';
import { JobRegistry } from '../../src/job/job-registry.ts';
import type { Invariant } from '../../src/testing/history/verdict.ts';

export interface Defect {
  readonly invariant: Invariant;
  readonly title: string;
  plant(): () => void;
}

// biome-ignore lint/suspicious/noExplicitAny: whatever the method has, the replacement has.
type Method = (this: any, ...args: any[]) => any;

/** Replaces a method or a getter. */
function replace(owner: object, name: string, make: (original: Method) => Method): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, name)!;
  const part = before.get === undefined ? 'value' : 'get';
  Object.defineProperty(owner, name, { ...before, [part]: make(before[part] as Method) });
  return () => void Object.defineProperty(owner, name, before);
}

export const DEFECTS: readonly Defect[] = [
  {
    invariant: 1,
    title: 'two copies share one buffer',
    plant() {
      const shared = Buffer.alloc(1024 * 1024);
      return replace(
        BufferBudget.prototype,
        'take',
        () => async (length: number) => shared.subarray(0, length),
      );
    },
  },
  {
    invariant: 1,
    title: 'the job goes on, and well, after the frozen moment was lost',
    plant: () => replace(BackupJob.prototype, 'assertWorthGoingOn', () => () => {}),
  },
  {
    invariant: 2,
    title: 'the last granule that a write touches is not marked where it is touched only in part',
    plant: () =>
      replace(
        Bitmap.prototype,
        'set',
        set =>
          function (offset: number, length: number) {
            const end = offset + length;
            const whole = end - (end % this.granularityBytes);
            set.call(this, offset, whole > offset ? whole - offset : length);
          },
      ),
  },
  {
    invariant: 3,
    title: 'who claims several clusters leaves the last one for others to claim again',
    plant: () =>
      replace(
        Bitmap.prototype,
        'reset',
        reset =>
          function (offset: number, length: number) {
            reset.call(
              this,
              offset,
              length > this.granularityBytes ? length - this.granularityBytes : length,
            );
          },
      ),
  },
  {
    invariant: 4,
    title: 'a guest does not wait for a copy that somebody else has begun',
    plant: () => replace(RequestList.prototype, 'overlapping', () => () => undefined),
  },
  {
    invariant: 4,
    title: 'a guest does not wait for the copy that it has begun itself',
    plant: () =>
      replace(
        BlockCopy.prototype,
        'copyRange',
        copyRange =>
          async function (offset: number, length: number) {
            void copyRange.call(this, offset, length);
          },
      ),
  },
  {
    invariant: 5,
    title: 'writes go to the frozen bits',
    plant: () =>
      replace(
        DirtyBitmap.prototype,
        'recordingBits',
        () =>
          function () {
            return this.recording && !this.inconsistent ? this.bits : undefined;
          },
      ),
  },
  {
    invariant: 5,
    title: 'a bitmap that a job has may be used by others',
    plant: () => replace(DirtyBitmap.prototype, 'assertUsable', () => () => {}),
  },
  {
    invariant: 6,
    title: 'what a refused transaction was to remove stays busy',
    plant: () =>
      replace(
        DirtyBitmap.prototype,
        'setBusy',
        setBusy =>
          function (busy: boolean) {
            if (busy) setBusy.call(this, busy);
          },
      ),
  },
  {
    invariant: 7,
    title: 'the terminal event comes twice',
    plant: () =>
      replace(
        JobRegistry.prototype,
        'add',
        add =>
          function (job) {
            add.call(this, job);
            const { onEvent } = job;
            job.onEvent = (event: { type: string }) => {
              onEvent(event);
              if (event.type === 'job-completed' || event.type === 'job-cancelled') onEvent(event);
            };
          },
      ),
  },
  {
    invariant: 8,
    title: 'what is on its way counts as done',
    plant: () =>
      replace(
        BlockCopy.prototype,
        'doneBytes',
        doneBytes =>
          function () {
            return doneBytes.call(this) + this.inFlightBytes;
          },
      ),
  },
  {
    invariant: 9,
    title: 'the filter appears beside the guest, and not between it and its disk',
    plant: () => replace(BlockGraph.prototype, 'insertAbove', () => () => {}),
  },
  {
    invariant: 9,
    title: 'the filter outlives its job',
    plant: () =>
      replace(
        BlockGraph.prototype,
        'remove',
        remove =>
          async function (name: string) {
            if (!name.endsWith('-filter')) await remove.call(this, name);
          },
      ),
  },
  {
    invariant: 10,
    title: 'a bitmap that was not closed properly is used all the same',
    plant: () =>
      replace(
        DirtyBitmap.prototype,
        'assertUsable',
        assertUsable =>
          function (use: object) {
            assertUsable.call(this, { ...use, inconsistent: true });
          },
      ),
  },
  {
    invariant: 10,
    title: 'a disabled bitmap takes note of writes',
    plant: () =>
      replace(
        DirtyBitmap.prototype,
        'recordingBits',
        recordingBits =>
          function () {
            return recordingBits.call(this) ?? (this.successor === undefined ? this.bits : undefined);
          },
      ),
  },
  {
    invariant: 11,
    title: 'a job ends without waiting for what is on its way to the target',
    plant: () => replace(BlockCopy.prototype, 'stop', () => async () => {}),
  },
  {
    invariant: 12,
    title: 'a flush that fails is as good as one that does not',
    plant: () =>
      replace(
        GraphNode.prototype,
        'flush',
        flush =>
          async function () {
            await flush.call(this)?.catch(() => undefined);
          },
      ),
  },
  {
    invariant: 12,
    title: 'a job that fails drops the frozen bits',
    plant: () =>
      replace(
        DirtyBitmap.prototype,
        'reclaim',
        () =>
          function () {
            this.abdicate();
          },
      ),
  },
];
