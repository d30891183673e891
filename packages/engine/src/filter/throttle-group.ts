// The limits of one or more throttle filters together: leaky buckets that requests fill and time empties.
//
// Each limit has an average rate, at which its bucket leaks, and may have a higher burst rate that holds for a
// number of seconds. A request may start while no bucket is over its brim, and is counted in full then: so a
// single large request passes at once, and the next one waits until its excess has leaked.

import type { Clock } from '../clock.ts';
import { EngineError } from '../errors.ts';

export const THROTTLE_KINDS = [
  'bps-total',
  'bps-read',
  'bps-write',
  'iops-total',
  'iops-read',
  'iops-write',
] as const;
export type ThrottleKind = (typeof THROTTLE_KINDS)[number];

export interface BucketLimit {
  /** Units per second, 0: no limit. */
  average: number;
  /** Units per second in a burst; 0: only what 100 ms at the average rate allow. */
  max: number;
  /** Seconds that a burst at `max` may last; at least 1. */
  maxLengthSeconds: number;
}

export interface ThrottleLimits {
  buckets: Partial<Record<ThrottleKind, Partial<BucketLimit>>>;
  /** A request counts as one operation for each started piece of this many bytes; 0: always as one. */
  iopsSizeBytes?: number;
}

export type ThrottleDirection = 'read' | 'write';

/** What a bucket without a burst rate holds: this part of a second at the average rate. */
const SLACK_SECONDS = 0.1;

class Bucket {
  readonly limit: BucketLimit;
  #level = 0;
  #burstLevel = 0;

  constructor(limit: BucketLimit) {
    this.limit = limit;
  }

  leak(seconds: number): void {
    const { average, max, maxLengthSeconds } = this.limit;
    this.#level = Math.max(0, this.#level - average * seconds);
    if (maxLengthSeconds > 1) this.#burstLevel = Math.max(0, this.#burstLevel - max * seconds);
  }

  fill(units: number): void {
    this.#level += units;
    if (this.limit.maxLengthSeconds > 1) this.#burstLevel += units;
  }

  /** Seconds until a request may start. */
  wait(): number {
    const { average, max, maxLengthSeconds } = this.limit;
    if (average === 0) return 0;
    const brim = max === 0 ? average * SLACK_SECONDS : max * maxLengthSeconds;
    if (this.#level > brim) return (this.#level - brim) / average;
    if (maxLengthSeconds <= 1) return 0;
    const burstBrim = max * SLACK_SECONDS;
    return this.#burstLevel > burstBrim ? (this.#burstLevel - burstBrim) / max : 0;
  }
}

/** Who has requests waiting; they take turns within a group. */
export interface ThrottleMember {
  readonly waiting: Record<ThrottleDirection, { bytes: number; start: () => void }[]>;
}

const APPLIES: Readonly<Record<ThrottleDirection, readonly ThrottleKind[]>> = {
  read: ['bps-total', 'bps-read', 'iops-total', 'iops-read'],
  write: ['bps-total', 'bps-write', 'iops-total', 'iops-write'],
};

export class ThrottleGroup {
  readonly name: string;
  readonly #clock: Clock;
  readonly #buckets = new Map<ThrottleKind, Bucket>();
  readonly #members: ThrottleMember[] = [];
  readonly #turn: Record<ThrottleDirection, number> = { read: 0, write: 0 };
  readonly #asleep: Record<ThrottleDirection, boolean> = { read: false, write: false };
  #limits: ThrottleLimits;
  #leakedAtMs: number;
  #wake = new AbortController();

  /** Throws kind `invalid-argument` for limits that contradict each other. */
  constructor(name: string, limits: ThrottleLimits, clock: Clock) {
    this.name = name;
    this.#clock = clock;
    this.#leakedAtMs = clock.monotonicMs();
    this.#limits = limits;
    this.configure(limits);
  }

  get limits(): ThrottleLimits {
    return this.#limits;
  }

  get memberCount(): number {
    return this.#members.length;
  }

  /** From now on; what waits is looked at anew. Throws `invalid-argument`, with nothing changed. */
  configure(limits: ThrottleLimits): void {
    const buckets = THROTTLE_KINDS.map(kind => [kind, completeLimit(limits.buckets[kind])] as const);
    checkExclusive(new Map(buckets));
    checkOperationSize(limits, new Map(buckets));
    for (const [kind, limit] of buckets) checkLimit(kind, limit);
    this.#limits = limits;
    this.#buckets.clear();
    for (const [kind, limit] of buckets) if (limit.average > 0) this.#buckets.set(kind, new Bucket(limit));
    this.#wake.abort();
    this.#wake = new AbortController();
    for (const direction of ['read', 'write'] as const) this.#schedule(direction);
  }

  join(member: ThrottleMember): void {
    this.#members.push(member);
  }

  /** Whatever the member still has waiting starts at once. */
  leave(member: ThrottleMember): void {
    this.release(member);
    this.#members.splice(this.#members.indexOf(member), 1);
  }

  /** Starts what the member has waiting without regard to the limits: somebody waits for all to end. */
  release(member: ThrottleMember): void {
    for (const direction of ['read', 'write'] as const) {
      for (const request of member.waiting[direction].splice(0)) {
        this.#fill(direction, request.bytes);
        request.start();
      }
    }
  }

  /** Undefined where the request may start now, and is counted; otherwise resolves when it may. */
  admit(member: ThrottleMember, direction: ThrottleDirection, bytes: number): Promise<void> | undefined {
    if (this.#buckets.size === 0) return undefined;
    const others = this.#members.some(other => other.waiting[direction].length > 0);
    if (!others && this.#waitMs(direction) === 0) {
      this.#fill(direction, bytes);
      return undefined;
    }
    return new Promise(start => {
      member.waiting[direction].push({ bytes, start });
      this.#schedule(direction);
    });
  }

  /** Starts what may start, one of each member in turn, then sleeps until the next one may. */
  #schedule(direction: ThrottleDirection): void {
    if (this.#asleep[direction]) return;
    for (;;) {
      const member = this.#next(direction);
      if (member === undefined) return;
      const waitMs = this.#waitMs(direction);
      if (waitMs > 0) {
        void this.#sleep(direction, waitMs);
        return;
      }
      const request = member.waiting[direction].shift()!;
      this.#fill(direction, request.bytes);
      request.start();
    }
  }

  async #sleep(direction: ThrottleDirection, waitMs: number): Promise<void> {
    this.#asleep[direction] = true;
    await this.#clock.sleep(waitMs, this.#wake.signal);
    this.#asleep[direction] = false;
    this.#schedule(direction);
  }

  #next(direction: ThrottleDirection): ThrottleMember | undefined {
    const count = this.#members.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#turn[direction] + step) % count;
      const member = this.#members[index]!;
      if (member.waiting[direction].length === 0) continue;
      this.#turn[direction] = index + 1;
      return member;
    }
    return undefined;
  }

  #waitMs(direction: ThrottleDirection): number {
    this.#leak();
    const waits = APPLIES[direction].map(kind => this.#buckets.get(kind)?.wait() ?? 0);
    return Math.max(...waits) * 1000;
  }

  #fill(direction: ThrottleDirection, bytes: number): void {
    const size = this.#limits.iopsSizeBytes ?? 0;
    const operations = size === 0 ? 1 : Math.max(1, bytes / size);
    for (const kind of APPLIES[direction]) {
      this.#buckets.get(kind)?.fill(kind.startsWith('bps') ? bytes : operations);
    }
  }

  #leak(): void {
    const now = this.#clock.monotonicMs();
    const seconds = (now - this.#leakedAtMs) / 1000;
    this.#leakedAtMs = now;
    for (const bucket of this.#buckets.values()) bucket.leak(seconds);
  }
}

/** Largest rate, so that a level stays exact: QEMU's own bound. */
const RATE_MAX = 1e15;

function completeLimit(given: Partial<BucketLimit> | undefined): BucketLimit {
  return { average: 0, max: 0, maxLengthSeconds: 1, ...given };
}

function checkOperationSize(
  { iopsSizeBytes = 0 }: ThrottleLimits,
  limits: ReadonlyMap<ThrottleKind, BucketLimit>,
): void {
  if (iopsSizeBytes === 0) return;
  const counts = THROTTLE_KINDS.some(kind => kind.startsWith('iops') && limits.get(kind)!.average !== 0);
  if (counts) return;
  const text = 'iops size requires an iops value to be set';
  throw new EngineError('invalid-argument', text, { op: 'throttle' });
}

function checkLimit(kind: ThrottleKind, limit: BucketLimit): void {
  const refuse = (text: string): never => {
    throw new EngineError('invalid-argument', text, { op: `throttle ${kind}` });
  };
  const { average, max, maxLengthSeconds } = limit;
  if ([average, max].some(rate => !(rate >= 0) || rate > RATE_MAX)) {
    refuse('bps/iops/max values must be within [0, 1000000000000000]');
  }
  if (!(maxLengthSeconds >= 1)) refuse('the burst length cannot be 0');
  if (maxLengthSeconds > 1 && max === 0) refuse('burst length set without burst rate');
  if (max > 0 && average === 0) refuse('bps_max/iops_max require corresponding bps/iops values');
  if (max > 0 && max < average) refuse('bps_max/iops_max cannot be lower than bps/iops');
}

/** A total and a limit of one direction would contradict each other. */
function checkExclusive(limits: ReadonlyMap<ThrottleKind, BucketLimit>): void {
  for (const unit of ['bps', 'iops'] as const) {
    for (const field of ['average', 'max'] as const) {
      const has = (kind: string) => limits.get(`${unit}-${kind}` as ThrottleKind)![field] > 0;
      if (!has('total') || !(has('read') || has('write'))) continue;
      const text = 'bps/iops/max total values and read/write values cannot be used at the same time';
      throw new EngineError('invalid-argument', text, { op: 'throttle' });
    }
  }
}
