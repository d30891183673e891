// Commands about user-created objects: throttle groups.
import { type BucketLimit, THROTTLE_KINDS, ThrottleGroup, type ThrottleLimits } from '@tidemark/engine';
import { z } from 'zod';
import { int64 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError, QmpError } from '../qmp-error.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

/** QAPI `ThrottleLimits`: each limit, its burst rate and the burst's length; and the same with `x-`. */
const limitShape = Object.fromEntries(
  THROTTLE_KINDS.flatMap(kind => [
    [kind, int64.optional()],
    [`${kind}-max`, int64.optional()],
    [`${kind}-max-length`, int64.optional()],
  ]),
);
const limitsSchema = z.strictObject({ ...limitShape, 'iops-size': int64.optional() });
type GivenLimits = Readonly<Record<string, number | undefined>>;

const oldNames = [...Object.keys(limitShape), 'iops-size'];
const throttleGroup = z.strictObject({
  'qom-type': z.literal('throttle-group'),
  id: z.string(),
  limits: limitsSchema.optional(),
  ...Object.fromEntries(oldNames.map(name => [`x-${name}`, int64.optional()])),
});

/** QAPI `ObjectOptions`, also the command line's `--object`. */
export const objectOptions = z.discriminatedUnion('qom-type', [throttleGroup]);

/** Identifiers of QEMU: a letter first. */
const ID = /^[A-Za-z][A-Za-z0-9\-._]*$/;

export function addObject(options: z.output<typeof objectOptions>, daemon: StorageDaemon): void {
  const { id } = options;
  if (!ID.test(id)) throw genericError("Parameter 'id' expects an identifier");
  if (daemon.throttleGroups.has(id)) {
    throw genericError(`attempt to add duplicate property '${id}' to object (type 'container')`);
  }
  const given: Record<string, number | undefined> = { ...(options.limits as GivenLimits | undefined) };
  for (const name of oldNames) given[name] ??= (options as unknown as GivenLimits)[`x-${name}`];
  daemon.throttleGroups.set(id, new ThrottleGroup(id, toLimits(given), daemon.clock));
}

/** Of a burst, in seconds. */
const LENGTH_MAX = 2 ** 32 - 1;

function toLimits(given: GivenLimits, now?: ThrottleLimits): ThrottleLimits {
  const buckets: ThrottleLimits['buckets'] = {};
  for (const kind of THROTTLE_KINDS) {
    const before = now?.buckets[kind];
    const limit: Partial<BucketLimit> = { ...before };
    const [average, max, length] = [given[kind], given[`${kind}-max`], given[`${kind}-max-length`]];
    if (average !== undefined) limit.average = average;
    if (max !== undefined) limit.max = max;
    if (length !== undefined && length > LENGTH_MAX) {
      throw genericError(`${kind}-max-length value must be in the range [0, ${LENGTH_MAX}]`);
    }
    if (length !== undefined) limit.maxLengthSeconds = length;
    buckets[kind] = limit;
  }
  return { buckets, iopsSizeBytes: given['iops-size'] ?? now?.iopsSizeBytes ?? 0 };
}

function describeLimits({ buckets, iopsSizeBytes = 0 }: ThrottleLimits): Record<string, number> {
  const described: Record<string, number> = { 'iops-size': iopsSizeBytes };
  for (const kind of THROTTLE_KINDS) {
    const limit = buckets[kind];
    described[kind] = limit?.average ?? 0;
    described[`${kind}-max`] = limit?.max ?? 0;
    described[`${kind}-max-length`] = limit?.maxLengthSeconds ?? 1;
  }
  return described;
}

function findGroup(path: string, property: string, { throttleGroups }: StorageDaemon): ThrottleGroup {
  const group = throttleGroups.get(path.replace(/^\/objects\//, ''));
  if (group === undefined) throw new QmpError('DeviceNotFound', `Device '${path}' not found`);
  if (property !== 'limits') throw genericError(`Property 'throttle-group.${property}' not found`);
  return group;
}

export const objectCommands: readonly QmpCommand[] = [
  defineCommand({ name: 'object-add', arguments: objectOptions, run: addObject }),
  defineCommand({
    name: 'object-del',
    arguments: z.strictObject({ id: z.string() }),
    run({ id }, { throttleGroups }) {
      const group = throttleGroups.get(id);
      if (group === undefined) throw genericError(`object '${id}' not found`);
      if (group.memberCount > 0) throw genericError(`object '${id}' is in use, can not be deleted`);
      throttleGroups.delete(id);
    },
  }),
  defineCommand({
    name: 'qom-get',
    arguments: z.strictObject({ path: z.string(), property: z.string() }),
    run: ({ path, property }, daemon) => describeLimits(findGroup(path, property, daemon).limits),
  }),
  defineCommand({
    name: 'qom-set',
    arguments: z.strictObject({ path: z.string(), property: z.string(), value: limitsSchema }),
    run({ path, property, value }, daemon) {
      const group = findGroup(path, property, daemon);
      group.configure(toLimits(value as GivenLimits, group.limits));
    },
  }),
];
