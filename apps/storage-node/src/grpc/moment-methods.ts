// The calls of the job service that are about frozen moments: backups, exports, and what is kept of them.
import { type JobServiceServer, JobServiceService as methods } from '@tidemark/proto';
import type { MomentServices } from '../moment/moment-services.ts';
import { toBackupStarted, toExportStarted } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';

type MomentMethods = Pick<
  JobServiceServer,
  'startBackup' | 'continueBackup' | 'releaseMoment' | 'listMoments' | 'startExport'
>;

// Starting is good to repeat by what the host knows of its jobs: a remembered answer could name a job that ended
// with an earlier life of the process.
export function momentMethods(options: MomentServices & { context: CallContext }): MomentMethods {
  const { context, backups, moments, momentExports } = options;
  return {
    startBackup: step(context, methods.startBackup, 'do-again', async request =>
      toBackupStarted(await backups.start(request)),
    ),
    continueBackup: step(context, methods.continueBackup, 'do-again', async request =>
      toBackupStarted(await backups.continue(request)),
    ),
    releaseMoment: step(context, methods.releaseMoment, 'do-again', async ({ momentId }) => {
      await backups.release(momentId);
      return {};
    }),
    listMoments: query(context, methods.listMoments, async () => ({ moments: await moments.list() })),
    startExport: step(context, methods.startExport, 'do-again', async request =>
      toExportStarted(await momentExports.start(request)),
    ),
  };
}
