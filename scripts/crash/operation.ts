// One request to the api of a round, followed to its end, with what may happen to it on the way: it is cancelled, or
// paused for a while.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { POLL_MS, SETTLE_MS } from './limits.ts';
import type { Answer, RunJson } from './rest.ts';
import type { Disk, World } from './world.ts';

/** `unknown`: no answer came, or a run was not seen to end. */
export type OperationEnd = 'succeeded' | 'failed' | 'cancelled' | 'refused' | 'unknown';
/** Of an operation with several runs, the first of these that one of them came to. */
const WORST_FIRST: readonly OperationEnd[] = ['unknown', 'failed', 'cancelled'];

export interface Operation {
  readonly kind: string;
  readonly disk: Disk;
  /** Of what it makes or is about: a checkpoint, a volume, a file, a backup. */
  readonly name: string;
  readonly isCancelled: boolean;
  /** It was sent until it was answered, and is carried out once. */
  readonly hasKey: boolean;
  end: OperationEnd;
  /** Of several, the one that ended worst. */
  run: RunJson | undefined;
  error: { code: string; message: string } | undefined;
}

export interface Request {
  readonly method: 'POST' | 'DELETE' | 'PATCH';
  readonly path: string;
  readonly body?: object;
  /** It takes a point in time. */
  readonly isInstant?: boolean;
  /** Of all of these; by default of the one that it is about. */
  readonly disks?: readonly Disk[];
}

const CANCEL_AFTER_MS_MAX = 700;
const PAUSE_MS_MAX = 400;
const KEY_BUSY = 'idempotency-key-busy';
/** Somebody is being killed: what certainly was not taken is asked again. */
const ATTEMPTS_MAX = 20;
const ATTEMPT_PAUSE_MS = 200;
/** Of a request that may be sent again when no answer came, because it is carried out once. */
const KEY_CHANCE = 0.5;

/** Between what failed of a firing. */
export const FAILED_PARTS = '; ';

/** A point in time that is being taken. */
interface Moment {
  readonly reached: (checkpointAt: string) => void;
  readonly over: () => void;
}

/** What was told in one round, and how it ended. */
export class Operations {
  readonly done: Operation[] = [];
  /** Runs that were paused; one whose resume got lost would stand still for ever. */
  readonly paused = new Set<string>();
  readonly #world: World;
  readonly #random: SeededRandom;
  /** The guest rests around points in time, so that they are known to the block. */
  readonly #isQuiet: boolean;

  constructor(world: World, random: SeededRandom, options: { isQuiet: boolean }) {
    this.#world = world;
    this.#random = random;
    this.#isQuiet = options.isQuiet;
  }

  async ask(kind: string, disk: Disk, name: string, request: Request): Promise<Operation> {
    const mayCancel = request.method === 'POST';
    const isCancelled = this.#random.chance(0.12) && mayCancel;
    const afterMs = this.#random.int(0, CANCEL_AFTER_MS_MAX);
    const isPaused = this.#random.chance(0.1) && kind.startsWith('backup');
    const key = this.#random.chance(KEY_CHANCE) && request.method === 'POST' ? randomUUID() : undefined;
    const operation = this.#begin({ kind, disk, name, isCancelled, hasKey: key !== undefined });
    const moment = await this.#takeMoment(disk, name, request);
    const answer = await this.#answerTo(operation, { request, key, moment });
    if (answer === undefined) return operation;
    const runIds = runIdsOf(answer);
    for (const runId of runIds) {
      if (isCancelled) void this.#cancelLater(runId, afterMs);
      else if (isPaused) void this.#pauseFor(runId, afterMs);
    }
    const onChange = (state: RunJson) => {
      if (state.checkpointAt !== null) moment.reached(state.checkpointAt);
    };
    const runs = await Promise.all(runIds.map(runId => this.#world.rest.follow(runId, onChange)));
    for (const run of runs) if (run !== undefined) moment.reached(run.checkpointAt ?? 'none');
    moment.over();
    conclude(operation, runs);
    return operation;
  }

  /** A policy of all disks, which is followed to the end of its firing. */
  async fire(kind: string, disks: readonly Disk[], policy: string): Promise<void> {
    const disk = disks[0]!;
    const operation = this.#begin({ kind, disk, name: policy, isCancelled: false, hasKey: true });
    const request = { method: 'POST', path: `policies/${policy}/fire`, isInstant: true, disks } as const;
    const moment = await this.#takeMoment(disk, policy, request);
    const answer = await this.#answerTo(operation, { request, key: randomUUID(), moment });
    if (answer === undefined) return;
    const path = `policies/${policy}/firings/${answer.body.id}`;
    const deadline = performance.now() + SETTLE_MS;
    while (performance.now() < deadline) {
      const { status, body } = await this.#world.rest.call('GET', path);
      if (status === 200 && body.finishedAt !== null) {
        operation.end = body.state === 'succeeded' ? 'succeeded' : 'failed';
        if (operation.end === 'failed') operation.error = await this.#firingError(path, body.followUps);
        break;
      }
      await delay(POLL_MS);
    }
    moment.reached('ended');
    moment.over();
  }

  /** With a part for each member and each replica that has failed. */
  async #firingError(
    path: string,
    followUps: readonly { kind: string; reason: string | null }[],
  ): Promise<{ code: string; message: string }> {
    const members: { volume: string; state: string; reason: string }[] = await this.#world.rest.list(
      `${path}/members`,
    );
    const failed = members.filter(({ state }) => state !== 'succeeded');
    const replicas = followUps.filter(({ kind, reason }) => kind === 'replicate' && reason !== null);
    const told = [
      ...failed.map(({ volume, state, reason }) => `${volume} ${state}: ${reason}`),
      ...replicas.map(({ reason }) => `replica: ${reason}`),
    ];
    return { code: 'firing-failed', message: told.join(FAILED_PARTS) };
  }

  #begin(what: Pick<Operation, 'kind' | 'disk' | 'name' | 'isCancelled' | 'hasKey'>): Operation {
    const operation: Operation = { ...what, end: 'unknown', run: undefined, error: undefined };
    this.done.push(operation);
    return operation;
  }

  /** Undefined: there is none, or a refusal, and the operation is over. */
  async #answerTo(
    operation: Operation,
    { request, key, moment }: { request: Request; key: string | undefined; moment: Moment },
  ): Promise<Answer | undefined> {
    const answer =
      key === undefined ? await this.#send(request) : await this.#sendUntilAnswered(request, key);
    if (answer.status !== 0 && answer.status < 300) return answer;
    refuse(operation, answer);
    if (answer.status !== 0) moment.reached('refused');
    moment.over();
    return undefined;
  }

  /** To be called when every service is back. */
  async resumePaused(): Promise<void> {
    for (const runId of this.paused) await this.#insist(`runs/${runId}/resume`);
    this.paused.clear();
  }

  /**
   * Notes when the point in time of that name can be: between now and when it was last told that it is another. A run
   * that has lost one takes a new one, and says so.
   */
  async #takeMoment(disk: Disk, name: string, { isInstant, disks = [disk] }: Request): Promise<Moment> {
    if (isInstant !== true) return { reached: () => {}, over: () => {} };
    if (this.#isQuiet) await Promise.all(disks.map(({ guest }) => guest.pause()));
    const windows = disks.map(({ guest, known }) => {
      const window = { from: guest.model.now(), to: Number.POSITIVE_INFINITY };
      known.set(name, { name, window });
      return { guest, window };
    });
    let seen: string | undefined;
    const over = () => {
      if (this.#isQuiet) for (const { guest } of disks) guest.resume();
    };
    const reached = (checkpointAt: string) => {
      if (seen === checkpointAt) return;
      seen = checkpointAt;
      for (const { guest, window } of windows) window.to = guest.model.now();
      over();
    };
    return { reached, over };
  }

  async #send({ method, path, body }: Request): Promise<Answer> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await this.#world.rest.call(method, path, body);
      const wasNotTaken = answer.status === 503 || answer.body.code === 'nobody-there';
      if (!wasNotTaken || attempt === ATTEMPTS_MAX) return answer;
      await delay(ATTEMPT_PAUSE_MS);
    }
  }

  /** The same request with the same key, at one api after the other. */
  async #sendUntilAnswered({ method, path, body }: Request, key: string): Promise<Answer> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const answer = await this.#world.rest.call(method, path, body, key);
      const mayPass = answer.status === 0 || answer.status === 503 || answer.body.code === KEY_BUSY;
      if (!mayPass || performance.now() > deadline) return answer;
      await delay(ATTEMPT_PAUSE_MS);
    }
  }

  async #cancelLater(runId: string, afterMs: number): Promise<void> {
    await delay(afterMs);
    await this.#world.rest.call('POST', `runs/${runId}/cancel`);
  }

  async #pauseFor(runId: string, afterMs: number): Promise<void> {
    await delay(afterMs);
    this.paused.add(runId);
    await this.#world.rest.call('POST', `runs/${runId}/pause`);
    await delay(this.#random.int(0, PAUSE_MS_MAX));
    await this.#insist(`runs/${runId}/resume`);
    this.paused.delete(runId);
  }

  /** Until it is answered, whatever the answer is. */
  async #insist(path: string): Promise<void> {
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      const { status } = await this.#world.rest.call('POST', path);
      if (status !== 0 && status !== 503) return;
      await delay(ATTEMPT_PAUSE_MS + POLL_MS);
    }
  }
}

function refuse(operation: Operation, { status, body }: Answer): void {
  operation.end = status === 0 ? 'unknown' : 'refused';
  operation.error = { code: String(body.code), message: String(body.detail) };
}

/** None: what was asked for is done. */
function runIdsOf({ body }: Answer): string[] {
  const runs: { id: string }[] = body.runs ?? (body.run ? [body.run] : []);
  return runs.map(({ id }) => id);
}

function conclude(operation: Operation, runs: readonly (RunJson | undefined)[]): void {
  const endOf = (run: RunJson | undefined) => (run === undefined ? 'unknown' : (run.state as OperationEnd));
  operation.end = WORST_FIRST.find(end => runs.some(run => endOf(run) === end)) ?? 'succeeded';
  operation.run = runs.find(run => endOf(run) === operation.end);
  operation.error = operation.run?.error ?? undefined;
}
