// The error catalogue: every code that crosses a process, with its HTTP status, gRPC status and
// whether trying again can help. Codes are stable; texts are not.
import { status } from '@grpc/grpc-js';

interface ErrorCodeEntry {
  readonly title: string;
  readonly http: number;
  readonly grpc: status;
  /** The same request may succeed later without anybody changing it. */
  readonly retryable: boolean;
}

const entry = (title: string, http: number, grpc: status, retryable = false): ErrorCodeEntry => ({
  title,
  http,
  grpc,
  retryable,
});

export const ERROR_CODES = {
  'invalid-request': entry('The request is not valid', 400, status.INVALID_ARGUMENT),
  'invalid-volume-size': entry('The volume size is not valid', 400, status.INVALID_ARGUMENT),
  'invalid-name': entry('The name is not valid', 400, status.INVALID_ARGUMENT),
  unauthenticated: entry('Nobody says who asks', 401, status.UNAUTHENTICATED),
  forbidden: entry('The caller may not do that', 403, status.PERMISSION_DENIED),
  'token-not-found': entry('The token is not known', 404, status.NOT_FOUND),
  'token-name-taken': entry('The token name is taken', 409, status.ALREADY_EXISTS),
  'fleet-secret-refused': entry(
    "A storage node does not take the caller's orders",
    502,
    status.UNAUTHENTICATED,
  ),
  'route-not-found': entry('There is no such resource', 404, status.UNIMPLEMENTED),
  'precondition-failed': entry('It has changed since it was read', 412, status.FAILED_PRECONDITION),
  'idempotency-key-reused': entry(
    'The idempotency key belongs to another request',
    422,
    status.INVALID_ARGUMENT,
  ),
  'idempotency-key-busy': entry('The same request is still under way', 409, status.ABORTED, true),
  'idempotency-answer-lost': entry('The request was carried out and its answer is gone', 409, status.ABORTED),
  'request-too-large': entry('The request is too large', 413, status.INVALID_ARGUMENT),
  'unsupported-media-type': entry('The content type is not understood', 415, status.INVALID_ARGUMENT),
  'storage-node-not-found': entry('The storage node is not known', 404, status.NOT_FOUND),
  'storage-node-name-taken': entry('The storage node name is taken', 409, status.ALREADY_EXISTS),
  'storage-node-address-taken': entry('The storage node address is taken', 409, status.ALREADY_EXISTS),
  'storage-node-unreachable': entry('The storage node does not answer', 503, status.UNAVAILABLE, true),
  'storage-node-not-ready': entry('The storage node is not ready', 409, status.FAILED_PRECONDITION),
  'storage-node-cordoned': entry('The storage node takes nothing new', 409, status.FAILED_PRECONDITION),
  'storage-node-lost': entry('The storage node is lost for good', 409, status.FAILED_PRECONDITION),
  'join-token-invalid': entry('The join token cannot be used', 403, status.PERMISSION_DENIED),
  'storage-node-in-use': entry(
    'The storage node still owns volumes or repositories',
    409,
    status.FAILED_PRECONDITION,
  ),
  'volume-not-found': entry('The volume is not known', 404, status.NOT_FOUND),
  'volume-name-taken': entry('The volume name is taken', 409, status.ALREADY_EXISTS),
  'volume-busy': entry('The volume is in use', 409, status.FAILED_PRECONDITION),
  'volume-not-ready': entry('The volume is not ready', 409, status.FAILED_PRECONDITION),
  'checkpoint-not-found': entry('The checkpoint is not known', 404, status.NOT_FOUND),
  'checkpoint-name-taken': entry('The checkpoint name is taken', 409, status.ALREADY_EXISTS),
  'checkpoint-inconsistent': entry(
    'The changes since the checkpoint cannot be trusted',
    409,
    status.FAILED_PRECONDITION,
  ),
  'checkpoint-in-use': entry('The checkpoint is in use', 409, status.FAILED_PRECONDITION),
  'checkpoint-not-ready': entry('The checkpoint is not ready', 409, status.FAILED_PRECONDITION),
  'checkpoint-pinned': entry('The checkpoint is protected', 409, status.FAILED_PRECONDITION),
  'checkpoint-limit': entry('The volume has too many checkpoints', 409, status.FAILED_PRECONDITION),
  'checkpoint-invalid': entry('The checkpoints cannot be defined like this', 409, status.FAILED_PRECONDITION),
  'moment-lost': entry('The frozen moment is lost', 409, status.ABORTED),
  'export-expired': entry('The export was open for as long as it might be', 410, status.ABORTED),
  'group-not-found': entry('The group is not known', 404, status.NOT_FOUND),
  'group-name-taken': entry('The group name is taken', 409, status.ALREADY_EXISTS),
  'group-not-ready': entry('The group is not ready', 409, status.FAILED_PRECONDITION),
  'group-interrupted': entry('The group was interrupted before it was decided', 409, status.ABORTED),
  'group-incomplete': entry('Not all members of the group succeeded', 409, status.ABORTED),
  'group-state': entry('The group cannot do that in its present state', 409, status.FAILED_PRECONDITION),
  'group-fence-broken': entry('The fence of the group did not hold', 409, status.ABORTED),
  'volume-in-group': entry(
    'The volume belongs to a group that is not decided',
    409,
    status.FAILED_PRECONDITION,
  ),
  'hook-not-found': entry('The hook is not known', 404, status.NOT_FOUND),
  'hook-failed': entry('The hook failed', 422, status.FAILED_PRECONDITION),
  'snapshot-not-found': entry('The snapshot is not known', 404, status.NOT_FOUND),
  'snapshot-name-taken': entry('The snapshot name is taken', 409, status.ALREADY_EXISTS),
  'snapshot-not-ready': entry('The snapshot is not ready', 409, status.FAILED_PRECONDITION),
  'snapshot-limit': entry('The volume has too many snapshots', 409, status.FAILED_PRECONDITION),
  'commit-not-found': entry('The commit is not known', 404, status.NOT_FOUND),
  'commit-not-ready': entry('The commit is not ready', 409, status.FAILED_PRECONDITION),
  'commit-invalid': entry('The images cannot be committed like this', 409, status.FAILED_PRECONDITION),
  'repository-not-found': entry('The repository is not known', 404, status.NOT_FOUND),
  'repository-name-taken': entry('The repository name is taken', 409, status.ALREADY_EXISTS),
  'repository-not-ready': entry('The repository is not ready', 409, status.FAILED_PRECONDITION),
  'repository-in-use': entry('The repository still holds backups', 409, status.FAILED_PRECONDITION),
  'repository-full': entry('The repository has no room left', 507, status.RESOURCE_EXHAUSTED),
  'storage-full': entry('The storage node has no room left', 507, status.RESOURCE_EXHAUSTED),
  'backup-not-found': entry('The backup is not known', 404, status.NOT_FOUND),
  'backup-exists': entry('The backup is there already', 409, status.ALREADY_EXISTS),
  'backup-not-usable': entry('The backup cannot be used', 409, status.FAILED_PRECONDITION),
  'backup-in-use': entry('The backup is in use', 409, status.FAILED_PRECONDITION),
  'backup-pinned': entry('The backup is protected', 409, status.FAILED_PRECONDITION),
  'backup-damaged': entry('The backup is damaged', 422, status.DATA_LOSS),
  'audit-failed': entry('Bitmap and backup do not agree', 422, status.DATA_LOSS),
  'difference-not-found': entry('The difference is not known', 404, status.NOT_FOUND),
  'events-pruned': entry('The events asked for are gone', 410, status.OUT_OF_RANGE),
  'event-streams-limit': entry('Too many event streams are open', 503, status.RESOURCE_EXHAUSTED, true),
  'webhook-not-found': entry('The webhook is not known', 404, status.NOT_FOUND),
  'webhook-name-taken': entry('The webhook name is taken', 409, status.ALREADY_EXISTS),
  'webhook-delivery-not-found': entry('The delivery is not known', 404, status.NOT_FOUND),
  'policy-not-found': entry('The policy is not known', 404, status.NOT_FOUND),
  'policy-name-taken': entry('The policy name is taken', 409, status.ALREADY_EXISTS),
  'policy-invalid': entry('The policy cannot be like this', 400, status.INVALID_ARGUMENT),
  'firing-not-found': entry('The firing is not known', 404, status.NOT_FOUND),
  'firing-complete': entry('The firing has nothing to retry', 409, status.FAILED_PRECONDITION),
  'replication-rule-not-found': entry('The replication rule is not known', 404, status.NOT_FOUND),
  'replication-rule-name-taken': entry('The replication rule name is taken', 409, status.ALREADY_EXISTS),
  'file-exists': entry('The file exists already', 409, status.ALREADY_EXISTS),
  'run-not-found': entry('The run is not known', 404, status.NOT_FOUND),
  'run-ended': entry('The run has already ended', 409, status.FAILED_PRECONDITION),
  'run-not-controllable': entry('The run cannot be told that', 409, status.FAILED_PRECONDITION),
  'run-cancelled': entry('The run was cancelled', 409, status.ABORTED),
  'run-superseded': entry('A newer attempt of the run is under way', 409, status.ABORTED),
  'wait-timed-out': entry('The run is still going on', 504, status.DEADLINE_EXCEEDED, true),
  'job-not-found': entry('The job is not known', 404, status.NOT_FOUND),
  'job-state': entry('The job cannot do that in its present state', 409, status.FAILED_PRECONDITION),
  'job-interrupted': entry('The job ended with its storage node', 409, status.ABORTED),
  'image-invalid': entry('The image is damaged or not understood', 422, status.DATA_LOSS),
  'io-error': entry('A disk or network request failed', 502, status.UNAVAILABLE, true),
  'catalog-unavailable': entry('The catalog does not answer', 503, status.UNAVAILABLE, true),
  'not-ready': entry('The service is not ready', 503, status.UNAVAILABLE, true),
  'internal-error': entry('Something went wrong inside', 500, status.INTERNAL),
} as const satisfies Record<string, ErrorCodeEntry>;

export type ErrorCode = keyof typeof ERROR_CODES;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERROR_CODES, text);
}
