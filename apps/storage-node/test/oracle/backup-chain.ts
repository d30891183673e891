// What scenarios about backups share: disks, jobs that run to their end, and chains of images put together.
import { expect } from 'vitest';
import type { QmpEventMessage } from './qmp-client.ts';
import type { Session } from './session.ts';

/** A new qcow2 image of 64 MiB, or as said, as a block node of the same name. */
export async function newDisk(
  s: Session,
  name: string,
  options: { size?: string; create?: string; backing?: string; fault?: object } = {},
): Promise<void> {
  const { size = '64M', create, backing, fault } = options;
  await s.image(name, {
    format: 'qcow2',
    size,
    ...(create === undefined ? {} : { options: create }),
    ...(backing === undefined ? {} : { backing }),
  });
  await openDisk(s, name, fault);
}

/** `fault` are options of a blkdebug node between the image and its file. */
export async function openDisk(s: Session, name: string, fault?: object): Promise<void> {
  const file = { driver: 'file', filename: s.path(name) };
  const below = fault === undefined ? file : { driver: 'blkdebug', image: file, ...fault };
  await s.add({ driver: 'qcow2', 'node-name': name, file: below });
}

/** Armed by a flush: the next read of data fails once with EIO. */
export const READ_FAILS_AFTER_FLUSH = {
  'set-state': [{ event: 'flush_to_disk', state: 1, new_state: 2 }],
  'inject-error': [{ event: 'read_aio', errno: 5, state: 2, immediately: false, once: true }],
};

/** Starts a backup that has the target's name as its id; the arguments may say otherwise. */
export function startBackup(s: Session, device: string, target: string, args: object): Promise<unknown> {
  return s.ok('blockdev-backup', { 'job-id': target, device, target, ...args });
}

/** Waits for the terminal event, and until the job is gone. Returns the event. */
export async function jobEnded(
  s: Session,
  id: string,
  outcome: 'BLOCK_JOB_COMPLETED' | 'BLOCK_JOB_CANCELLED' = 'BLOCK_JOB_COMPLETED',
): Promise<QmpEventMessage> {
  const event = await s.event(outcome, { device: id });
  await s.jobState(id, 'null');
  return event;
}

/** Waits until all jobs are gone, in whatever order they end. */
export function allJobsGone(s: Session): Promise<void> {
  return s.until('the end of all jobs', async () => (await s.ask<unknown[]>('query-jobs')).length === 0);
}

/** A whole backup, after which the target's block node is gone and its file can be looked at. */
export async function backup(
  s: Session,
  device: string,
  target: string,
  args: object,
): Promise<QmpEventMessage> {
  await startBackup(s, device, target, args);
  const event = await jobEnded(s, target);
  await s.ok('blockdev-del', { 'node-name': target });
  return event;
}

/** A full backup into a new image of that name, to compare with. */
export async function reference(s: Session, device: string, name: string, size?: string): Promise<void> {
  await newDisk(s, name, size === undefined ? {} : { size });
  await backup(s, device, name, { sync: 'full' });
}

/** Only rewrites the backing pointer of the image; no data moves. */
export async function rebase(s: Session, image: string, backing: string): Promise<void> {
  const backed = ['-b', s.path(backing), '-F', 'qcow2'];
  const { code, stderr } = await s.tool('qemu-img', 'rebase', '-u', '-f', 'qcow2', ...backed, s.path(image));
  if (code !== 0) throw new Error(`${s.side}: rebase of ${image} failed: ${stderr}`);
}

/** Takes guest and block node away, so that the image's file is complete. */
export async function closeDisk(s: Session, name: string): Promise<void> {
  await s.closeGuest(name);
  await s.ok('blockdev-del', { 'node-name': name });
}

/** Closes the source's guest and both disks, and compares what they hold. */
export async function expectEqual(s: Session, source: string, target: string): Promise<void> {
  await closeDisk(s, source);
  await s.ok('blockdev-del', { 'node-name': target });
  expect(await s.compare(source, target)).toBe(true);
}

export const bitmapAction = (verb: string, data: object) => ({ type: `block-dirty-bitmap-${verb}`, data });

export const backupAction = (device: string, target: string, args: object) => ({
  type: 'blockdev-backup',
  data: { 'job-id': target, device, target, ...args },
});

export const ABORT = { type: 'abort', data: {} };
