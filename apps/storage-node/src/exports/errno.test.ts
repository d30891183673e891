// Goal: whatever is thrown, an NBD client gets a defined errno. Method: every kind and the system errors
// that matter.
import { ENGINE_ERROR_KINDS, EngineError } from '@tidemark/engine';
import { NbdError } from '@tidemark/nbd';
import { expect, test } from 'vitest';
import { toNbdErrno } from './errno.ts';

const ALL = ['EPERM', 'EIO', 'ENOMEM', 'EINVAL', 'ENOSPC', 'EOVERFLOW', 'ENOTSUP', 'ESHUTDOWN'];

test.each(ENGINE_ERROR_KINDS)('kind %s has an errno of the protocol', kind => {
  expect(ALL).toContain(toNbdErrno(new EngineError(kind, 'x')));
});

test.each([
  ['ENOSPC', 'ENOSPC'],
  ['EDQUOT', 'ENOSPC'],
  ['EROFS', 'EPERM'],
  ['EOPNOTSUPP', 'ENOTSUP'],
  ['ECONNRESET', 'EIO'],
  ['ETIMEDOUT', 'EINVAL'],
  ['EACCES', 'EINVAL'],
  ['EBUSY', 'EINVAL'],
  ['ERR_OUT_OF_RANGE', 'EIO'],
  ['constructor', 'EIO'],
])('system error %s becomes %s', (errno, expected) => {
  expect(toNbdErrno(new EngineError('io', 'x', { errno }))).toBe(expected);
  expect(toNbdErrno(Object.assign(new Error('x'), { code: errno }))).toBe(expected);
});

test('a denied snapshot read is EINVAL, other things thrown are EIO, an NBD error keeps its errno', () => {
  expect(toNbdErrno(new EngineError('denied', 'x'))).toBe('EINVAL');
  expect(toNbdErrno(undefined)).toBe('EIO');
  expect(toNbdErrno('text')).toBe('EIO');
  expect(toNbdErrno(new NbdError('EOVERFLOW', 'x'))).toBe('EOVERFLOW');
});
