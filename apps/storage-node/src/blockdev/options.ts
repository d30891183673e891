// The options of a block node as QMP and the command line give them: QAPI's `BlockdevOptions`.
import { z } from 'zod';
import { alternate } from '../qmp/arguments.ts';
import type { BlockdevChild } from './blockdev-driver.ts';
import { blockdevDrivers } from './drivers.ts';

/** Options that every driver has, in QAPI's order. */
const common = {
  'node-name': z.string().optional(),
  discard: z.enum(['ignore', 'unmap']).optional(),
  cache: z.strictObject({ direct: z.boolean().optional(), 'no-flush': z.boolean().optional() }).optional(),
  'read-only': z.boolean().optional(),
  'auto-read-only': z.boolean().optional(),
  'force-share': z.boolean().optional(),
  'detect-zeroes': z.enum(['off', 'on', 'unmap']).optional(),
};
const commonSchema = z.object(common);

/** Common options as given. */
type GivenCommon = z.output<typeof commonSchema>;

/** Checked options: common ones, the driver's own, children. */
export interface BlockdevOptions extends GivenCommon {
  driver: string;
  [option: string]: unknown;
}

/** Common options with everything decided. */
export interface CommonOptions {
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly forceShare: boolean;
  readonly discard: 'ignore' | 'unmap';
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  readonly cache: { readonly direct: boolean; readonly noFlush: boolean };
}

const COMMON_DEFAULT: CommonOptions = {
  readOnly: false,
  autoReadOnly: false,
  forceShare: false,
  discard: 'ignore',
  detectZeroes: 'off',
  cache: { direct: false, noFlush: false },
};

/** What a child that says nothing takes from its parent. */
export function inheritedOptions(parent: CommonOptions, role: string): CommonOptions {
  // Drivers above send discards only where they are wanted: a child need not decide again.
  const { cache, readOnly, autoReadOnly, forceShare } = parent;
  const child: CommonOptions = {
    ...COMMON_DEFAULT,
    cache,
    readOnly,
    autoReadOnly,
    forceShare,
    discard: 'unmap',
  };
  if (role === 'backing') return { ...child, readOnly: true, autoReadOnly: false, discard: 'ignore' };
  return child;
}

export function decideCommon(given: GivenCommon, inherited: CommonOptions = COMMON_DEFAULT): CommonOptions {
  return {
    readOnly: given['read-only'] ?? inherited.readOnly,
    autoReadOnly: given['auto-read-only'] ?? inherited.autoReadOnly,
    forceShare: given['force-share'] ?? inherited.forceShare,
    discard: given.discard ?? inherited.discard,
    detectZeroes: given['detect-zeroes'] ?? inherited.detectZeroes,
    cache: {
      direct: given.cache?.direct ?? inherited.cache.direct,
      noFlush: given.cache?.['no-flush'] ?? inherited.cache.noFlush,
    },
  };
}

/** The driver's own options: without the common ones and the children. */
export function ownOptions(options: BlockdevOptions): Record<string, unknown> {
  const { children } = blockdevDrivers.get(options.driver)!;
  return Object.fromEntries(
    Object.entries(options).filter(([key]) => key !== 'driver' && !(key in common) && !(key in children)),
  );
}

function childSchema({ required, nullable }: BlockdevChild): z.ZodType {
  const reference = z.lazy(() => (nullable ? blockdevReferenceOrNull : blockdevReference));
  return required ? reference : reference.optional();
}

const branches = [...blockdevDrivers.values()].map(({ name, options, children }) => {
  const references = Object.entries(children).map(([key, child]) => [key, childSchema(child)]);
  return z.strictObject({
    driver: z.literal(name),
    ...common,
    ...Object.fromEntries(references),
    ...options.shape,
  });
});

/** QAPI's `BlockdevOptions`. */
export const blockdevOptions = z.discriminatedUnion('driver', [
  branches[0]!,
  ...branches.slice(1),
]) as unknown as z.ZodType<BlockdevOptions>;

export const blockdevReference = alternate('BlockdevRef', [z.string(), blockdevOptions]);
const blockdevReferenceOrNull = alternate('BlockdevRefOrNull', [z.string(), blockdevOptions, z.null()]);
