// Plays a history to one side: every reply, bitmap, digest, terminal event and image goes into the trace, and
// each is held against the model.
import { readFile, truncate, writeFile } from 'node:fs/promises';
import {
  type BackupStep,
  type BitmapStep,
  DISK_BYTES,
  type GuestStep,
  Model,
  type Step,
} from '@tidemark/engine/testing';
import { expect } from 'vitest';
import type { Session } from '../session.ts';

/** The disk's name tells histories of one session apart. */
export async function playHistory(s: Session, steps: readonly Step[], disk: string): Promise<void> {
  const player = new Player(s, disk);
  await player.open();
  for (const step of steps) await player.play(step);
  await player.close();
}

const GUEST = { write: 'write', zero: 'write -z', unmap: 'write -z -u', discard: 'discard' };

class Player {
  readonly #s: Session;
  readonly #disk: string;
  readonly #model = new Model();
  #backups = 0;

  constructor(s: Session, disk: string) {
    this.#s = s;
    this.#disk = disk;
  }

  /** A raw disk of zeroes; a flush arms one failing read of it. */
  async open(): Promise<void> {
    await this.#newFile(this.#disk);
    await this.#s.add({
      driver: 'raw',
      'node-name': this.#disk,
      discard: 'unmap',
      file: {
        driver: 'blkdebug',
        discard: 'unmap',
        image: { driver: 'file', filename: this.#s.path(this.#disk), discard: 'unmap' },
        'inject-error': Array.from({ length: 24 }, (_, index) => ({
          ...{ event: 'read_aio', errno: 5, once: true, immediately: false, state: index + 2 },
        })),
        'set-state': Array.from({ length: 24 }, (_, index) => ({
          ...{ event: 'flush_to_disk', state: index + 1, new_state: index + 2 },
        })),
      },
    });
    await this.#s.guest(this.#disk);
  }

  async play(step: Step): Promise<void> {
    if ('guest' in step) await this.#guest(step);
    else if ('bitmap' in step) await this.#answered(this.#command(step), this.#model.bitmap(step));
    else if ('transaction' in step) {
      const actions = step.transaction.map(action =>
        action === 'abort'
          ? { type: 'abort', data: {} }
          : { type: commandOf(action), data: this.#data(action) },
      );
      await this.#answered(['transaction', { actions }], this.#model.transaction(step.transaction));
    } else await this.#backup(step);
    await this.#compareBitmaps();
  }

  async close(): Promise<void> {
    await this.#s.closeGuest(this.#disk);
    await this.#s.ok('blockdev-del', { 'node-name': this.#disk });
    const contents = await readFile(this.#s.path(this.#disk));
    expect(contents.equals(this.#model.bytes), 'the disk holds what guests wrote').toBe(true);
  }

  async #guest(step: GuestStep): Promise<void> {
    const pattern = step.guest === 'write' ? ` -P ${step.byte}` : '';
    await this.#s.io(this.#disk, `${GUEST[step.guest]}${pattern} ${step.offset} ${step.length}`);
    this.#model.guest(step);
  }

  #command(step: BitmapStep): [string, object] {
    return [commandOf(step), this.#data(step)];
  }

  #data(step: BitmapStep): object {
    const node = this.#disk;
    if (step.bitmap === 'merge') return { node, target: step.name, bitmaps: step.from };
    if (step.bitmap !== 'add') return { node, name: step.name };
    return { node, name: step.name, granularity: step.granularity, disabled: step.disabled };
  }

  async #answered([command, args]: [string, object], accepted: boolean): Promise<void> {
    const reply = await this.#s.qmp(command, args);
    expect(reply.error === undefined, `${command} ${JSON.stringify(args)}`).toBe(accepted);
  }

  async #backup(step: BackupStep): Promise<void> {
    // Its bitmap may have been dropped from a history that is being shrunk.
    if (step.name !== undefined && !this.#model.bitmaps.has(step.name)) return;
    const target = `${this.#disk}-target-${this.#backups++}`;
    await this.#newFile(target);
    const file = { driver: 'file', filename: this.#s.path(target) };
    const fault = { event: 'none', iotype: 'write', errno: 5, once: true, immediately: false };
    const failing = { driver: 'blkdebug', image: file, 'inject-error': [fault] };
    await this.#s.add({ driver: 'raw', 'node-name': target, file: step.fault === 'write' ? failing : file });
    if (step.fault === 'read') {
      // QEMU leaves a flush out where nothing was written since the last one.
      await this.#guest({ guest: 'write', offset: 0, length: 4096, byte: 0xf1 });
      await this.#s.io(this.#disk, 'flush');
    }
    const before = Buffer.from(this.#model.bytes);
    this.#model.startBackup(step);
    const outcome = await this.#run(step, target);
    this.#model.endBackup(step, outcome);
    await this.#s.ok('blockdev-del', { 'node-name': target });
    if (!outcome.failed && !outcome.cancelled && step.backup === 'full') {
      const contents = await readFile(this.#s.path(target));
      expect(contents.equals(before), 'a full backup is the disk as of its start').toBe(true);
    }
    if (!outcome.cancelled && !outcome.failed) {
      this.#s.note(`contents of ${target}`, (await readFile(this.#s.path(target))).toString('base64'));
    }
  }

  async #run(step: BackupStep, target: string) {
    const s = this.#s;
    const job = `job-${target}`;
    const policies = { 'on-source-error': step.policy, 'on-target-error': step.policy };
    const bitmap =
      step.name === undefined ? {} : { bitmap: step.name, ...(step.mode && { 'bitmap-mode': step.mode }) };
    await s.ok('blockdev-backup', {
      ...{ 'job-id': job, device: this.#disk, target, sync: step.backup, ...bitmap, ...policies },
      ...{ 'auto-finalize': false, 'x-perf': { 'max-workers': 1 } },
    });
    const { event, data } = await s.anyEvent(
      ({ event: name, data: about }) =>
        (name === 'JOB_STATUS_CHANGE' && about?.id === job && about.status === 'pending') ||
        (name === 'BLOCK_JOB_COMPLETED' && about?.device === job),
    );
    if (event === 'BLOCK_JOB_COMPLETED') {
      expect(data).toHaveProperty('error');
      await s.jobState(job, 'null');
      // Part of it was copied: which part is the daemons' business, as long as both say the same.
      return { failed: true, cancelled: false };
    }
    for (const request of step.pending) await this.#guest(request);
    const cancelled = step.end === 'cancel';
    await s.ok(cancelled ? 'job-cancel' : 'job-finalize', { id: job });
    await s.jobState(job, 'null');
    return { failed: false, cancelled, uncopied: [] };
  }

  async #compareBitmaps(): Promise<void> {
    const found = await this.#s.bitmaps(this.#disk);
    expect(found.map(({ name }) => name)).toEqual([...this.#model.bitmaps.keys()].sort());
    for (const { name, count, recording, busy } of found) {
      const { dirty, granularity, recording: wanted } = this.#model.bitmaps.get(name!)!;
      expect({ name, recording, busy }).toEqual({ name, recording: wanted, busy: false });
      if (dirty !== undefined) expect({ name, count }).toEqual({ name, count: dirty.size * granularity });
      await this.#s.ok('x-debug-block-dirty-bitmap-sha256', { node: this.#disk, name });
    }
  }

  async #newFile(name: string): Promise<void> {
    await writeFile(this.#s.path(name), '');
    await truncate(this.#s.path(name), DISK_BYTES);
  }
}

function commandOf(step: BitmapStep): string {
  return `block-dirty-bitmap-${step.bitmap}`;
}
