// Stands above the topmost image that a commit job empties, so that users further up can live with the base
// being written: they read the same through it at any moment of the job.
import { type ChildPermissions, PERMISSIONS_ALL } from '../graph/permissions.ts';
import { PassThrough } from './pass-through.ts';

export class CommitTop extends PassThrough {
  readonly driver = 'commit_top';
}

export const commitTopPermissions: ChildPermissions = () => ({ uses: 0, shares: PERMISSIONS_ALL });
