// The `null-co` driver: takes everything, keeps nothing.
import { NullNode } from '@tidemark/engine';
import { z } from 'zod';
import { size as byteSize } from '../qmp/arguments.ts';
import { defineDriver } from './blockdev-driver.ts';
import { byteCount } from './option-types.ts';

/** Sizes are told in whole sectors. */
const SECTOR_BYTES = 512;

export const nullCoDriver = defineDriver({
  name: 'null-co',
  options: z.object({
    size: byteCount.optional(),
    'latency-ns': byteSize.optional(),
    'read-zeroes': z.boolean().optional(),
  }),
  children: {},
  permissions: () => ({ uses: 0, shares: 0 }),
  fixedOptions: ['size', 'read-zeroes', 'latency-ns'],
  reopen: () => ({ commit() {}, abort() {} }),
  protocol: true,
  filename: ({ size, 'read-zeroes': zeroes }) =>
    size === undefined && zeroes === undefined ? 'null-co://' : undefined,
  strongOptions: ['size', 'read-zeroes'],
  async open({ options, readOnly, host }) {
    const size = options.size === undefined ? {} : { sizeBytes: wholeSectors(options.size) };
    return new NullNode({
      ...size,
      readZeroes: options['read-zeroes'] ?? false,
      latencyNs: options['latency-ns'] ?? 0,
      readOnly,
      clock: host.clock,
    });
  },
});

function wholeSectors(bytes: number): number {
  return Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
}
