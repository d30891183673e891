// Goal: a database that goes away is called that, however deep in the layers above it the error was made. Method: the
// adapter's own error, bare and wrapped.
import { DriverAdapterError } from '@prisma/driver-adapter-utils';
import { expect, test } from 'vitest';
import { asCatalogError } from './errors.ts';

const ended = new DriverAdapterError({
  kind: 'postgres',
  code: '57P01',
  originalCode: '57P01',
  severity: 'FATAL',
  message: 'terminating connection due to unexpected postmaster exit',
  detail: undefined,
  column: undefined,
  hint: undefined,
});

test.each([
  ['bare', ended],
  ['wrapped', Object.assign(new Error('query failed'), { meta: { driverAdapterError: ended } })],
])('a server that ends under a transaction is away: %s', (_how, error) => {
  expect(asCatalogError(error)).toMatchObject({ code: 'catalog-unavailable' });
});

test('a defect stays what it is', () => {
  const defect = new TypeError('x is not a function');
  expect(asCatalogError(defect)).toBe(defect);
});
