// One group over all hosts as the product's coordinator takes it: each step on every host before the next one on any,
// the decision after all have answered that their fences held, and told until everybody has heard it.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { GroupReleased, StepContext } from '@tidemark/proto';
import type { Taken } from './group-way.ts';
import type { Host } from './host.ts';
import { CALL_TIMEOUT_MS, FENCE_LIMIT_MS, RETRY_MS, SETTLE_MS } from './limits.ts';
import type { Plan, Step, Trouble } from './plan.ts';

const DECIDED = { keep: true, undo: false } as const;

export class Coordinator {
  readonly #hosts: readonly Host[];
  readonly #plan: Plan;
  /** Has the plan's trouble happen; resolves when it is over. */
  readonly #cause: (trouble: Trouble) => Promise<void>;
  readonly #runId = randomUUID();
  readonly #groupId = randomUUID();
  readonly #checkpointIds: readonly string[];
  #troubles: Promise<void>[] = [];

  constructor(options: {
    hosts: readonly Host[];
    plan: Plan;
    cause: (trouble: Trouble) => Promise<void>;
  }) {
    this.#hosts = options.hosts;
    this.#plan = options.plan;
    this.#cause = options.cause;
    this.#checkpointIds = options.hosts.map(() => randomUUID());
  }

  /** Resolves when it is decided, everybody has been told, and the plan's trouble is over. */
  async take(): Promise<Taken & { checkpointIds: readonly string[] }> {
    let released: GroupReleased[] = [];
    let reason = '';
    try {
      await this.#step('prepare', (host, index) => this.#prepare(host, index));
      await this.#step('fence', host => host.clients.groups.fenceGroup(this.#call('fence'), SHORT));
      await this.#step('commit', host => host.clients.groups.commitGroup(this.#call('commit'), SHORT));
      released = await this.#step('release', host => this.#release(host));
      reason = released.find(({ held }) => !held)?.reason ?? '';
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    const kept = reason === '' && released.length === this.#hosts.length;
    await this.#step('decide', host => this.#decide(host, kept ? 'keep' : 'undo'));
    await Promise.all(this.#troubles);
    return { checkpointIds: this.#checkpointIds, kept, reason, released };
  }

  /** Rejects, when all have answered or failed, with the first failure. */
  async #step<T>(step: Step, call: (host: Host, index: number) => Promise<T>): Promise<T[]> {
    const { at, trouble, pauseMs, lagMs } = this.#plan;
    const isHere = trouble !== undefined && at.step === step;
    if (isHere && (at.afterMs < 0 || trouble.kind === 'kill-point'))
      this.#troubles.push(this.#cause(trouble));
    await delay(pauseMs[step]);
    const calls = this.#hosts.map(async (host, index) => {
      await delay(lagMs[step][index]);
      return call(host, index);
    });
    if (isHere && at.afterMs >= 0 && trouble.kind !== 'kill-point') {
      this.#troubles.push(delay(at.afterMs).then(() => this.#cause(trouble)));
    }
    const answers: T[] = [];
    for (const end of await Promise.allSettled(calls)) {
      if (end.status === 'rejected') throw end.reason;
      answers.push(end.value);
    }
    return answers;
  }

  #prepare(host: Host, index: number) {
    const checkpointId = this.#checkpointIds[index]!;
    const moment = { momentId: checkpointId, baseCheckpointId: '', onCbwError: '', cbwTimeoutMs: 0 };
    const member = {
      ...{ volumeId: host.volume.volumeId, checkpointId, checkpointName: checkpointId },
      ...{ checkpointDescription: '', moment: { ...moment, scratchLimitBytes: 0, also: [] } },
    };
    const group = { groupId: this.#groupId, groupName: 'suite', fenceLimitMs: FENCE_LIMIT_MS };
    const request = { step: this.#context('prepare'), ...group, members: [member] };
    return host.clients.groups.prepareGroup(request, SHORT);
  }

  /** Asked until it answers: one that has died may have made it durable before. */
  async #release(host: Host): Promise<GroupReleased> {
    return this.#until(() => host.clients.groups.releaseGroup(this.#call('release'), SHORT));
  }

  async #decide(host: Host, decision: keyof typeof DECIDED): Promise<void> {
    const request = { step: this.#context('decide'), groupId: this.#groupId, keep: DECIDED[decision] };
    await this.#until(() => host.clients.groups.decideGroup(request, SHORT));
  }

  async #until<T>(call: () => Promise<T>): Promise<T> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      try {
        return await call();
      } catch (error) {
        const isAway = (error as { code?: unknown }).code === 'storage-node-unreachable';
        if (!isAway || performance.now() > deadline) throw error;
        await delay(RETRY_MS);
      }
    }
  }

  #call(step: Step) {
    return { step: this.#context(step), groupId: this.#groupId };
  }

  #context(step: Step): StepContext {
    return { runId: this.#runId, step, leaseEpoch: 1 };
  }
}

const SHORT = { timeoutMs: CALL_TIMEOUT_MS };
