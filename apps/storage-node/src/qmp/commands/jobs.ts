// Commands on jobs: the family that speaks of jobs, the older one that speaks of block devices, and queries.
import type { Job } from '@tidemark/engine';
import { z } from 'zod';
import { int64 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { isBlockJob, toQmpEvent } from '../job-events.ts';
import { genericError, QmpError } from '../qmp-error.ts';
import type { StorageDaemon } from '../storage-daemon.ts';
import { systemErrorText } from '../system-error-text.ts';

const byId = z.strictObject({ id: z.string() });
const byDevice = z.strictObject({ device: z.string() });

/** Throws class `DeviceNotActive`: to the older commands a job is what is active on a device. */
function blockJob(daemon: StorageDaemon, id: string): Job {
  const job = daemon.jobs.find(id);
  if (job === undefined || !isBlockJob(job.type))
    throw new QmpError('DeviceNotActive', `Block job '${id}' not found`);
  return job;
}

function jobCommand(verb: string, run: (job: Job) => void): QmpCommand {
  return defineCommand({
    name: `job-${verb}`,
    arguments: byId,
    run: ({ id }, daemon) => run(daemon.jobs.get(id)),
  });
}

/** `finalize` and `dismiss` came late to the older family, and name the job by its id. */
function blockJobCommand(verb: string, key: 'id' | 'device', run: (job: Job) => void): QmpCommand {
  return defineCommand({
    name: `block-job-${verb}`,
    arguments: key === 'id' ? byId : byDevice,
    run: (args, daemon) => run(blockJob(daemon, (args as Record<string, string>)[key]!)),
  });
}

const verbs: QmpCommand[] = [
  jobCommand('pause', job => job.pause()),
  jobCommand('resume', job => job.resume()),
  jobCommand('complete', job => job.complete()),
  jobCommand('finalize', job => job.finalize()),
  jobCommand('dismiss', job => job.dismiss()),
  jobCommand('cancel', job => job.cancel({ force: true })),
  blockJobCommand('pause', 'device', job => job.pause()),
  blockJobCommand('resume', 'device', job => job.resume()),
  blockJobCommand('complete', 'device', job => job.complete()),
  blockJobCommand('finalize', 'id', job => job.finalize()),
  blockJobCommand('dismiss', 'id', job => job.dismiss()),
  defineCommand({
    name: 'block-job-cancel',
    arguments: byDevice.extend({ force: z.boolean().optional() }),
    run({ device, force = false }, daemon) {
      const job = blockJob(daemon, device);
      if (!force && job.info().userPaused) {
        throw genericError(`The block job for device '${device}' is currently paused`);
      }
      job.cancel({ force });
    },
  }),
  defineCommand({
    name: 'block-job-set-speed',
    arguments: byDevice.extend({ speed: int64 }),
    run: ({ device, speed }, daemon) => blockJob(daemon, device).setSpeed(speed),
  }),
];

function describeJob(job: Job): object {
  const { id, type, state, currentBytes, totalBytes, error } = job.info();
  return {
    'current-progress': currentBytes,
    status: state,
    'total-progress': totalBytes,
    type,
    id,
    // Block jobs tell the error number's text, others all they know.
    ...(error && { error: isBlockJob(type) ? systemErrorText(error) : error.message }),
  };
}

function describeBlockJob(job: Job): object {
  const info = job.info();
  return {
    'auto-finalize': info.autoFinalize,
    'io-status': info.ioStatus,
    device: info.id,
    'auto-dismiss': info.autoDismiss,
    // A job here always waits for something while a command is answered.
    busy: false,
    len: info.totalBytes,
    offset: info.currentBytes,
    status: info.state,
    paused: info.userPaused || info.holdsGuests,
    speed: info.speedBytesPerSecond,
    ready: info.ready,
    type: info.type,
    ...(info.error && { error: systemErrorText(info.error) }),
  };
}

/** The youngest first, as QEMU lists them. */
function listed(daemon: StorageDaemon): Job[] {
  return daemon.jobs.all.reverse();
}

export const jobCommands: readonly QmpCommand[] = [
  ...verbs,
  defineCommand({
    name: 'query-jobs',
    arguments: z.strictObject({}),
    run: (_args, daemon) => listed(daemon).map(describeJob),
  }),
  defineCommand({
    name: 'query-block-jobs',
    arguments: z.strictObject({}),
    run: (_args, daemon) =>
      listed(daemon)
        .filter(job => isBlockJob(job.type))
        .map(describeBlockJob),
  }),
  defineCommand({
    name: 'x-tidemark-query-events',
    // For clients that lost their connection: what they missed, as far as it is still kept.
    arguments: z.strictObject({ after: int64.optional() }),
    run: ({ after = 0 }, daemon) =>
      daemon.jobs.eventsAfter(after).flatMap(({ sequence, atMs, event }) => {
        const told = toQmpEvent(event);
        return told === undefined ? [] : [{ sequence, 'timestamp-ms': Math.floor(atMs), ...told }];
      }),
  }),
];
