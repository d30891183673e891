// What problem documents of each code say, as the OpenAPI document shows them: one story about volume 'web-01' on
// storage node 'alpha' and repository 'vault' on 'beta'. A code without an example does not compile.
import type { ErrorCode } from '@tidemark/proto';
import { EXAMPLE_IDS, EXAMPLE_MOMENT } from './common.ts';

const { backup, checkpoint, commit, firing, run } = EXAMPLE_IDS;
const listThem = 'List them to see what there is.';
const taken = (noun: string, name: string) =>
  `A ${noun} named '${name}' exists already. Choose another name.`;
const unknown = (noun: string, ref: string) => `There is no ${noun} '${ref}'. ${listThem}`;

const ACCESS = {
  unauthenticated:
    "The request has no token. Send 'authorization: Bearer TOKEN'; an admin makes tokens with `tidemark token create`.",
  forbidden:
    "'dashboard' has the role viewer; POST /v1/volumes needs operator. Ask an admin for a token with that role.",
  'token-not-found': unknown('token', 'dashboard'),
  'token-name-taken': taken('token', 'dashboard'),
  'token-last':
    "Token 'bootstrap' is the last that lets an admin in. Make another one first (`tidemark token create NAME --role " +
    'admin`), or send `allowLastAdmin=true` (`--allow-last-admin`) to leave nobody.',
  'fleet-secret-refused':
    "Storage node 'alpha' obeys nobody without its secret: /tidemark.v1.VolumeService/CreateVolume came with another " +
    'secret than the fleet has: give api, worker and every storage node the same TIDEMARK_FLEET_SECRET.',
  'join-token-invalid':
    "Storage node 'gamma' cannot join: there is no such join token. An admin makes a new one with " +
    '`tidemark storage-node join-token create`.',
} satisfies Partial<Record<ErrorCode, string>>;

const REQUESTS = {
  'invalid-request': "'name' in the body is missing; send a string",
  'invalid-volume-size':
    "'sizeBytes' in the body is 1000, which is no multiple of 512; send one from 512 to 1 PiB",
  'invalid-name':
    `'name' in the body is "../etc", which begins with or holds a character that a name cannot have; send 1 to 64 ` +
    "letters, digits, '-', '_' or '.', beginning with a letter or digit",
  'route-not-found':
    'There is nothing at GET /v1/disks. The calls that exist are listed at /docs and /openapi.json.',
  'precondition-failed':
    '/v1/volumes/web-01 is "rZxDfznXQkEi" and not "vOH6mYqC6OpS": it has changed since it was read. Read it again, ' +
    'and decide anew.',
  'idempotency-key-reused':
    "The idempotency key 'order-17' was sent with another request within the last day. Send a new key with a new " +
    'request; the same key is for sending the very same request again.',
  'idempotency-key-busy':
    "The request with the idempotency key 'order-17' is still under way. Send it again in a while.",
  'idempotency-answer-lost':
    'The request with this idempotency key was carried out, and its answer was not kept, or was lost with the ' +
    'service. Look for what it has made; do not send it anew.',
  'request-too-large': 'The body is larger than 65536 bytes. Send less.',
  'unsupported-media-type': 'The body is not declared as JSON. Send it with content-type: application/json.',
  'events-pruned':
    'Events up to 4000 have been removed for their age, and with them some that came after 17. Look at what there ' +
    'is now, then follow events without an id, or after=0 for all that are kept.',
  'events-ahead':
    'No event has the id 4017 yet: the newest one is 4000. Where the catalog was restored from an older copy, ids ' +
    'are given anew: look at what there is now, then follow events without an id, or with after=4000.',
  'event-streams-limit':
    '256 event streams are open at this api service, the most there may be. Close one, or use another api service.',
  'waits-limit':
    '1000 callers wait for runs at this api service, the most there may be. Ask without waiting and follow the run, ' +
    'or ask another api service.',
  'wait-timed-out': `Run ${run} is still going on after 30000 ms. Follow it at /v1/runs/${run}.`,
  'catalog-unavailable': 'The catalog does not answer. Try again; if it stays, look at PostgreSQL.',
  'not-ready': 'The catalog does not answer: start PostgreSQL, or look at TIDEMARK_DATABASE_URL.',
  'internal-error':
    'Something failed inside. Try again; if it stays, look for request req-1f in the log of the api service.',
} satisfies Partial<Record<ErrorCode, string>>;

const STORAGE = {
  'storage-node-not-found': unknown('storage node', 'gamma'),
  'storage-node-name-taken':
    "Storage node 'alpha' exists already and is online. Choose another name, or remove that one first.",
  'storage-node-address-taken':
    "Address 10.0.0.11:7411 belongs to storage node 'alpha'. Use that name, or remove it first.",
  'storage-node-unreachable':
    `Storage node 'alpha' has not answered at 10.0.0.11:7411 since ${EXAMPLE_MOMENT}. Start it or repair its ` +
    'connection, then try again.',
  'storage-node-not-ready':
    "Storage node 'alpha' is joining. Wait until its register-storage-node run has ended, then try again.",
  'storage-node-cordoned':
    `Storage node 'alpha' is cordoned since ${EXAMPLE_MOMENT}: nothing new goes there. Choose another one, or ` +
    'uncordon it first.',
  'storage-node-lost':
    "Storage node 'alpha' is lost for good. Use another one; what it had can be restored from backups.",
  'storage-node-in-use': "Storage node 'alpha' owns 3 volumes and 1 repository. Delete or move those first.",
  'storage-full':
    "The file system of storage node 'alpha' has no room left. Free space there, then try again.",
  'hook-not-found':
    "Storage node 'alpha' knows no hook 'freeze-db'. Add it to its TIDEMARK_HOOKS, or leave the hook out.",
  'hook-failed':
    "Hook 'freeze-db' on storage node 'alpha' ended with exit status 1. Look at its program on the storage node, " +
    'then try again.',
  'file-exists': '/var/lib/tidemark/restores/web-01.raw exists already. Choose another name or remove it.',
  'job-not-found':
    `There is no job 'backup-${run}' on this storage node: it was dismissed, or ended when the storage node last ` +
    'stopped.',
  'job-state': `Job 'backup-${run}' has ended; there is nothing left to tell it. Dismiss it.`,
  'job-interrupted':
    `The backup of volume 'web-01' for checkpoint ${checkpoint} ended with its storage node. Delete the checkpoint ` +
    'and back up again.',
  'image-invalid': `Backup ${backup} could not be made durable. Discard it and run the backup again.`,
  'io-error': "Volume 'web-01' could not be read at 65536 (EIO). Look at the disk of storage node 'alpha'.",
} satisfies Partial<Record<ErrorCode, string>>;

const VOLUMES = {
  'volume-not-found': "There is no volume 'web-01'. List them to see what there is.",
  'volume-name-taken':
    "Volume 'web-01' exists already on storage node 'alpha' and is ready. Choose another name, or delete that one " +
    'first.',
  'volume-busy': `Volume 'web-01' is used by backup run ${run}. Wait for it, or cancel it.`,
  'volume-not-ready': "Volume 'web-01' is creating. Wait until its run has ended, then try again.",
  'volume-in-group':
    "Volume 'web-01' belongs to group 'before-upgrade', which is not decided. Wait until it is.",
  'audit-failed':
    "By the bitmaps of volume 'web-01' nothing was written at 65536 since the checkpoint, and yet its backup has " +
    'other data there. Increments since then may miss changes: make a full backup.',
  'checkpoint-not-found': `Volume 'web-01' has no checkpoint 'monday'. ${listThem}`,
  'checkpoint-name-taken': "Volume 'web-01' has a checkpoint 'monday' already. Choose another name.",
  'checkpoint-inconsistent':
    "What changed on volume 'web-01' since checkpoint 'monday' is not known: a bitmap or the write-intent log was " +
    'lost or damaged. Make a full backup; later increments can build on that.',
  'checkpoint-in-use': `Checkpoint 'monday' of volume 'web-01' is used by run ${run}. Wait for it, or cancel it.`,
  'checkpoint-not-ready':
    "Checkpoint 'monday' of volume 'web-01' is creating. Wait until its run has ended, or choose another one.",
  'checkpoint-pinned':
    `Checkpoint 'monday' of volume 'web-01' is protected until ${EXAMPLE_MOMENT}. Take its protection away first, or ` +
    'wait.',
  'checkpoint-limit':
    "Volume 'web-01' has 64 checkpoints, and its limit is 64. Delete some, let the oldest go with " +
    '"dropOldest": true, or raise the limit with PATCH /v1/volumes/web-01 {"checkpointLimit": …}.',
  'checkpoint-invalid':
    "Checkpoints of volume 'web-01' are not defined: 'monday' is the last one and does not record. Put that right, " +
    'then define them again.',
  'moment-lost':
    `The frozen moment of volume 'web-01' for checkpoint ${checkpoint} is not kept any more. Delete the checkpoint ` +
    'and back up from a new point in time.',
  'export-expired':
    'Nobody finished the export within 3600000 ms, so it has ended, and its checkpoint with it. Export again with ' +
    'more time, and finish the run when all is read.',
  'snapshot-not-found':
    "Volume 'web-01' has no snapshot 'before-upgrade'. List them with GET /v1/volumes/web-01/snapshots.",
  'snapshot-name-taken':
    "Volume 'web-01' has a snapshot 'before-upgrade' already, which is ready. Choose another name, or commit that " +
    'one first.',
  'snapshot-not-ready':
    "Snapshot 'before-upgrade' of volume 'web-01' is creating. Wait until its run has ended, or choose another one.",
  'snapshot-limit':
    "Volume 'web-01' has 64 snapshots, which is as many as it can have. Commit one of them into the one below first.",
  'commit-not-found': `Volume 'web-01' has no commit '${commit}'. List them with GET /v1/volumes/web-01/commits.`,
  'commit-not-ready': `Commit ${commit} of volume 'web-01' is running, not ready. Wait until it is.`,
  'commit-invalid':
    "Snapshot 'after' of volume 'web-01' is not older than 'before', so it is not below it. Choose an older one as " +
    'base, or a later one as top.',
} satisfies Partial<Record<ErrorCode, string>>;

const BACKUPS = {
  'repository-not-found': unknown('repository', 'vault'),
  'repository-name-taken':
    "Repository 'vault' exists already on storage node 'beta' and is ready. Choose another name.",
  'repository-not-ready': "Repository 'vault' is creating. Wait until its run has ended, then try again.",
  'repository-in-use':
    "Repository 'vault' holds 12 backups: it cannot be deleted. Delete or move what is there first.",
  'repository-full':
    `Backup ${backup} is expected to take 1073741824 bytes, but 52428800 are available in repository 'vault'. Remove ` +
    'backups, raise the limit or make room there, then back up again.',
  'backup-not-found':
    "Checkpoint 'monday' of volume 'web-01' has no available backup. Choose another checkpoint.",
  'backup-exists':
    "Repository 'offsite' has the backup of checkpoint 'monday' of volume 'web-01' already: nothing is missing there.",
  'backup-not-usable': `Backup ${backup} is damaged: nothing can be built on it. Choose another backup.`,
  'backup-in-use': `Backup ${backup} is in use by run ${run}. Wait for it, or cancel it.`,
  'backup-pinned': `Backup ${backup} is protected until ${EXAMPLE_MOMENT}. Take its protection away first, or wait.`,
  'backup-damaged':
    `Backup ${backup} is damaged at 65536. Restore with onDamage 'skip' to take what is right of it, or choose ` +
    'another backup.',
  'difference-not-found':
    'Difference 9f0a1b2c is gone: there is nothing left to repair. Compare again to see.',
  'replication-rule-not-found': unknown('replication rule', 'away'),
  'replication-rule-name-taken': taken('replication rule', 'away'),
} satisfies Partial<Record<ErrorCode, string>>;

const FLEET = {
  'group-not-found': unknown('group', 'before-upgrade'),
  'group-name-taken': "Group 'before-upgrade' exists already and is ready. Choose another name.",
  'group-not-ready': "Group 'before-upgrade' is creating. Wait until its run has ended.",
  'group-interrupted':
    "The worker that made group 'before-upgrade' went away while its instant was taken. Nothing was decided, and " +
    'nothing of it is left; make it again.',
  'group-incomplete':
    "Group 'before-upgrade' has its checkpoints, and not all of its backups: volume 'web-01' failed. Back it up alone.",
  'group-state': "Group 'before-upgrade' was released on this storage node already. Make a new one.",
  'group-fence-broken':
    "The fence of group 'before-upgrade' did not hold: its limit of 500 ms passed. Guests go on, and nothing is left " +
    'of the group here. Try again with a new one, or give it a longer limit.',
  'policy-not-found': unknown('policy', 'nightly'),
  'policy-name-taken': taken('policy', 'nightly'),
  'policy-invalid': "Policy 'nightly' names no repository. Name one with PATCH, then switch it on.",
  'firing-not-found': `Policy 'nightly' has no firing '${firing}'. ${listThem}`,
  'firing-complete': `Firing ${firing} of policy 'nightly' has nothing that failed or did not start. Fire it anew.`,
  'webhook-not-found': unknown('webhook', 'ops'),
  'webhook-name-taken': taken('webhook', 'ops'),
  'webhook-delivery-not-found': `Webhook 'ops' has no delivery '${run}'. ${listThem}`,
  'webhook-key-missing':
    "The secret of webhook 'ops' cannot be kept or used without a key: give api and workers the same " +
    'TIDEMARK_WEBHOOK_KEY (openssl rand -hex 32), or the TIDEMARK_FLEET_SECRET, and start them again.',
  'webhook-key-unknown':
    "The secret of webhook 'ops' is sealed with key 3f9a; this service has 77c1. Start it with the key of then as " +
    'TIDEMARK_WEBHOOK_KEY_PREVIOUS, or give the webhook a new secret (POST /v1/webhooks/ops/secret) and its ' +
    'receiver, too.',
  'webhook-secret-damaged':
    "The secret of webhook 'ops' is not as it was sealed, or was sealed for another webhook. Give the webhook a new " +
    'secret (POST /v1/webhooks/ops/secret) and its receiver, too.',
  'run-not-found': `There is no run '${run}'. ${listThem}`,
  'run-ended': `Run ${run} has succeeded; there is nothing left to cancel.`,
  'run-not-controllable':
    `Run ${run} is of kind 'create-volume' and cannot be paused; that is for runs of kind backup, restore. Wait for ` +
    'its end, or cancel it.',
  'run-cancelled': `The create-volume run ${run} was cancelled. Ask for it again if it is still wanted.`,
  'run-superseded':
    `Run ${run} is at lease epoch 3 here; step 'start' of epoch 2 comes too late. ` +
    'Leave the run to its newer attempt.',
  'run-loses-workers':
    `The restore run ${run} was given up: 10 workers in a row went silent with it, without any progress in between. ` +
    'Look at how they ended (their logs, the memory they had), then ask for it again.',
} satisfies Partial<Record<ErrorCode, string>>;

export const PROBLEM_DETAILS: Readonly<Record<ErrorCode, string>> = {
  ...ACCESS,
  ...REQUESTS,
  ...STORAGE,
  ...VOLUMES,
  ...BACKUPS,
  ...FLEET,
};
