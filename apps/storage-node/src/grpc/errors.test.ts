// Goal: whatever is thrown, gRPC callers get a code of the catalogue. Method: every kind and class.
import { ENGINE_ERROR_KINDS, EngineError } from '@tidemark/engine';
import { NbdError, NbdProtocolError } from '@tidemark/nbd';
import { ERROR_CODES, TidemarkError } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { toTidemarkError } from './errors.ts';

test.each(ENGINE_ERROR_KINDS)('kind %s has a code and keeps its text', kind => {
  const error = toTidemarkError(new EngineError(kind, 'the text'));
  expect(Object.keys(ERROR_CODES)).toContain(error.code);
  expect(error.code).not.toBe('internal-error');
  expect(error.message).toBe('the text');
});

test('a full disk is storage-full whoever met it', () => {
  for (const error of [
    new EngineError('io', 'x', { errno: 'ENOSPC' }),
    new NbdError('ENOSPC', 'x'),
    Object.assign(new Error('x'), { code: 'EDQUOT' }),
  ]) {
    expect(toTidemarkError(error).code).toBe('storage-full');
  }
});

test('own errors pass, the rest is io or internal', () => {
  const own = new TidemarkError('volume-busy', 'x');
  expect(toTidemarkError(own)).toBe(own);
  expect(toTidemarkError(new NbdProtocolError('x')).code).toBe('io-error');
  expect(toTidemarkError(new TypeError('x')).code).toBe('internal-error');
  expect(toTidemarkError(null).code).toBe('internal-error');
});
