// What an answer told and no run carries: policies, webhooks, tokens, rules of replication, labels. Whatever dies, what
// was answered stays; what was not answered is there whole, or not at all.
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { DISK_LABELS, DISK_SELECTOR, FACT_PAUSE_MS_MAX, FACTS_KEPT, POLL_MS, SETTLE_MS } from './limits.ts';
import type { Answer, Method, Rest } from './rest.ts';

type Shape = Readonly<Record<string, unknown>>;

interface Noun {
  readonly path: string;
  /** So many of them at most. */
  readonly atOnce?: number;
  make?(name: string, note: string, random: SeededRandom): Shape;
  /** Undefined: it cannot be changed. */
  change?(note: string, random: SeededRandom): Shape;
  /** What it is after a DELETE; null: not there. Undefined: nobody removes it here. */
  readonly removed?: Shape | null;
}

/** Nothing is ever sent to them. */
const NOWHERE = 'http://127.0.0.1:9';

const NOUNS: readonly Noun[] = [
  {
    path: 'policies',
    make: (name, description) => ({
      name,
      description,
      selector: 'nothing=here',
      kind: 'checkpoint',
      schedule: { cron: '0 3 1 1 *', timeZone: 'UTC', missed: 'skip', missedMax: 1, jitterMs: 0 },
    }),
    change: description => ({ description }),
    removed: null,
  },
  {
    path: 'webhooks',
    make: (name, note) => ({ name, url: `${NOWHERE}/${note}`, kinds: ['run-cleanup-given-up'] }),
    change: note => ({ url: `${NOWHERE}/${note}` }),
    removed: null,
  },
  { path: 'tokens', make: name => ({ name, role: 'viewer' }), removed: { state: 'revoked' } },
];
/** What it keeps of each guest's backups; null: all. */
const KEEPS: readonly (Shape | null)[] = [
  null,
  null,
  ...[2, 4].map(last => ({ last, hourly: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 })),
];

/** Two of one direction, of which one keeps what the other lets go, would never rest. */
function ruleNoun(sides: { source: string; target: string }): Noun {
  return {
    path: 'replication-rules',
    atOnce: 1,
    make: (name, _note, random) => ({
      ...{ name, ...sides, selector: DISK_SELECTOR },
      ...{ keep: random.pick(KEEPS), flatten: random.chance(0.2), newestFirst: random.chance(0.3) },
    }),
    change: (_note, random) =>
      random.pick([
        { keep: random.pick(KEEPS) },
        { enabled: random.chance(0.7) },
        { flatten: random.chance(0.2), newestFirst: random.chance(0.5) },
      ]),
    removed: null,
  };
}

/** Of guests: here only their labels change. */
const VOLUME: Noun = { path: 'volumes', change: note => ({ labels: { ...DISK_LABELS, note } }) };

interface Fact {
  readonly noun: Noun;
  readonly name: string;
  /** Of these it is one; null: not there. More than one until somebody looks. */
  states: readonly (Shape | null)[];
}

export class Facts {
  readonly #rest: Pick<Rest, 'call'>;
  readonly #nouns = [...NOUNS];
  readonly #facts: Fact[] = [];
  /** Refusals that nothing explains. */
  readonly #faults: string[] = [];
  #answered = 0;

  constructor(rest: Pick<Rest, 'call'>) {
    this.#rest = rest;
  }

  /** The volume of a guest. */
  adoptVolume(name: string): void {
    this.#facts.push({ noun: VOLUME, name, states: [{ name, labels: DISK_LABELS }] });
  }

  /** Rules of replication are made from the one to the other: in both directions they are refused. */
  adoptRepositories(sides: { source: string; target: string }): void {
    this.#nouns.push(ruleNoun(sides));
  }

  /** Makes, changes and removes some, one after the other. `label`: no other call's. */
  async perform(random: SeededRandom, label: string, { pauseMsMax = FACT_PAUSE_MS_MAX } = {}): Promise<void> {
    for (let count = random.int(3, 8); count > 0; count -= 1) {
      const note = `${label}-${count}`;
      const present = this.#facts.filter(({ states }) => states[0] !== null && states.length === 1);
      const dice = random.int(1, 10);
      const isFull = present.length >= FACTS_KEPT;
      if (present.length === 0 || (dice <= 4 && !isFull)) await this.#make(note, random);
      else if (dice <= 7 && !isFull) await this.#change(random.pick(present), note, random);
      else await this.#remove(random.pick(present), note, random);
      await delay(random.int(0, pauseMsMax));
    }
  }

  /** Looks at all of them; those that are gone for good are forgotten. */
  async check(): Promise<{ faults: string[]; answered: number; kept: number }> {
    const faults = this.#faults.splice(0);
    for (const fact of this.#facts.splice(0)) {
      const { noun, name, states } = fact;
      const found = await this.#look(`${noun.path}/${name}`);
      const state = states.find(one => matches(found, one));
      if (state === undefined) {
        const wanted = states.map(one => JSON.stringify(one)).join(' or ');
        faults.push(`${noun.path}/${name} was to be ${wanted}, and is ${JSON.stringify(found)}`);
      } else if (state !== null && state !== noun.removed) {
        this.#facts.push({ noun, name, states: [state] });
      }
    }
    const answered = this.#answered;
    this.#answered = 0;
    return { faults, answered, kept: this.#facts.length };
  }

  async #make(name: string, random: SeededRandom): Promise<void> {
    const countOf = (noun: Noun) => this.#facts.filter(fact => fact.noun === noun && !isGone(fact)).length;
    const noun = random.pick(
      this.#nouns.filter(one => countOf(one) < (one.atOnce ?? Number.POSITIVE_INFINITY)),
    );
    const body = noun.make!(name, name, random);
    const fact: Fact = { noun, name, states: [null] };
    this.#facts.push(fact);
    const key = random.chance(0.5) ? randomUUID() : undefined;
    const { answer, isRepeated } = await this.#send('POST', noun.path, { body, key });
    // What was made by a call that was not answered is in the way of its repetition, or known by its key.
    const isMade =
      answer.status === 201 || (isRepeated && /-name-taken$|-answer-lost$/.test(answer.body.code));
    this.#conclude(fact, { next: body, isDone: isMade, answer });
  }

  async #change(fact: Fact, note: string, random: SeededRandom): Promise<void> {
    const { noun, name, states } = fact;
    if (noun.change === undefined) return this.#remove(fact, note, random);
    const body = noun.change(note, random);
    const { answer } = await this.#send('PATCH', `${noun.path}/${name}`, { body });
    this.#conclude(fact, { next: { ...states[0], ...body }, isDone: answer.status === 200, answer });
  }

  async #remove(fact: Fact, note: string, random: SeededRandom): Promise<void> {
    const { noun, name } = fact;
    if (noun.removed === undefined) return this.#change(fact, note, random);
    const { answer, isRepeated } = await this.#send('DELETE', `${noun.path}/${name}`, {});
    const isGone = answer.status === 200 || (isRepeated && answer.status === 404);
    this.#conclude(fact, { next: noun.removed, isDone: isGone, answer });
  }

  #conclude(
    fact: Fact,
    { next, isDone, answer }: { next: Shape | null; isDone: boolean; answer: Answer },
  ): void {
    if (isDone) {
      this.#answered += 1;
      fact.states = [next];
      return;
    }
    fact.states = [...fact.states, next];
    if (answer.status === 0) return;
    this.#faults.push(
      `${fact.noun.path}/${fact.name} was refused: ${answer.status} ${JSON.stringify(answer.body)}`,
    );
  }

  /** Until it is answered; without a key and without an answer a POST is not sent again. */
  async #send(
    method: Method,
    path: string,
    { body, key }: { body?: object; key?: string | undefined },
  ): Promise<{ answer: Answer; isRepeated: boolean }> {
    const deadline = performance.now() + SETTLE_MS;
    for (let isRepeated = false; ; isRepeated = true) {
      const answer = await this.#rest.call(method, path, body, key);
      const isLost = answer.status === 0 && answer.body.code !== 'nobody-there';
      const mayPass =
        answer.status === 0 || answer.status === 503 || answer.body.code === 'idempotency-key-busy';
      const isOver = isLost && method === 'POST' && key === undefined;
      if (!mayPass || isOver || performance.now() > deadline) return { answer, isRepeated };
      await delay(POLL_MS);
    }
  }

  /** Null: it is not there. */
  async #look(path: string): Promise<Shape | null> {
    const deadline = performance.now() + SETTLE_MS;
    for (;;) {
      const { status, body } = await this.#rest.call('GET', path);
      if (status === 200) return body;
      if (status === 404) return null;
      if (performance.now() > deadline) throw new Error(`GET ${path}: ${status} ${JSON.stringify(body)}`);
      await delay(POLL_MS);
    }
  }
}

/** As far as is known. */
function isGone({ states }: Fact): boolean {
  return states.length === 1 && states[0] === null;
}

/** What it has to be is part of what it is. */
function matches(found: Shape | null, wanted: Shape | null): boolean {
  if (found === null || wanted === null) return found === wanted;
  return Object.entries(wanted).every(([name, value]) => isDeepStrictEqual(found[name], value));
}
