// Joins the fleet by itself: says to the API, with a join token, who it is and where it is reached. Guests are
// served whether the API answers or not. What was said once is said again only when the address has changed.
import { createHash } from 'node:crypto';
import type { Clock } from '@tidemark/engine';
import type { Labels } from '@tidemark/proto';
import { z } from 'zod';
import { JOIN_ANSWER_MAX_MS, JOIN_PAUSE_MS_MAX, JOIN_PAUSE_MS_MIN } from '../limits.ts';
import { postJson } from './post-json.ts';
import type { StateStore } from './state-store.ts';

const NAME = 'joined.json';
const joinedSchema = z.strictObject({ version: z.literal(1), controlAddress: z.string(), fleet: z.string() });
const joinedAnswerSchema = z.object({ storageNode: z.object({ state: z.string() }) });
const problemSchema = z.object({ code: z.string(), detail: z.string() });

export interface JoinAddress {
  readonly url: string;
  readonly token: string;
  /** Of an address with https: the CA (PEM) that is trusted; undefined: those of the system. */
  readonly ca?: Buffer | undefined;
}

export interface MembershipOptions {
  readonly store: StateStore;
  readonly clock: Clock;
  readonly join: JoinAddress;
  readonly member: { name: string; controlAddress: string; instanceId: string; labels: Labels };
  /** Never told the token. */
  report(outcome: { isTrouble: boolean; message: string }): void;
}

export class FleetMembership {
  readonly #options: MembershipOptions;
  readonly #stop = new AbortController();
  #joining: Promise<void> = Promise.resolve();

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  /** Does not wait for the API. */
  start(): void {
    this.#joining = this.#join().catch((error: unknown) => {
      if (!this.#stop.signal.aborted) this.#options.report({ isTrouble: true, message: String(error) });
    });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#joining;
  }

  async #join(): Promise<void> {
    const { store, clock, report, join, member } = this.#options;
    const said = { version: 1 as const, controlAddress: member.controlAddress, fleet: fleetOf(join.url) };
    const known = await store.read(NAME, joinedSchema);
    if (known?.controlAddress === said.controlAddress && known.fleet === said.fleet) return;
    let told = '';
    for (let pauseMs = JOIN_PAUSE_MS_MIN; ; pauseMs = Math.min(pauseMs * 2, JOIN_PAUSE_MS_MAX)) {
      const answer = await this.#say();
      if (answer.isFinal) {
        if (answer.joined) await store.write(NAME, said);
        return report({ isTrouble: answer.isTrouble, message: answer.message });
      }
      if (answer.message !== told) report(answer);
      told = answer.message;
      await clock.sleep(pauseMs, this.#stop.signal);
      if (this.#stop.signal.aborted) return;
    }
  }

  async #say(): Promise<{ joined: boolean; isTrouble: boolean; isFinal: boolean; message: string }> {
    const { join, member } = this.#options;
    // Of an address with a password in it the log is told the rest alone.
    const { origin } = new URL(join.url);
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(JOIN_ANSWER_MAX_MS)]);
    try {
      const url = new URL('/v1/storage-nodes/join', join.url);
      const { status, body } = await postJson(url, { token: join.token, ...member }, { ca: join.ca, signal });
      const joined = joinedAnswerSchema.safeParse(body);
      // Not before the fleet has reached it: an address that nobody reaches is told again, or told of by its run.
      if (joined.success) {
        const isFinal = joined.data.storageNode.state !== 'joining';
        const message = isFinal ? `joined as '${member.name}'` : 'waits to be asked at its address';
        return { joined: isFinal, isTrouble: false, isFinal, message };
      }
      const problem = problemSchema.safeParse(body);
      const message = problem.success
        ? `${problem.data.code}: ${problem.data.detail}`
        : `${origin} answered ${status}, as no Tidemark API does. Look at TIDEMARK_JOIN_URL.`;
      // What is refused now is refused again; a page is that of a proxy, whose API may come back.
      const isFinal = body !== undefined && status >= 300 && status < 500;
      return { joined: false, isTrouble: true, isFinal, message };
    } catch (error) {
      const message = `the API at ${origin} ${troubleOf(error)}; it is asked again by itself.`;
      return { joined: false, isTrouble: true, isFinal: false, message };
    }
  }
}

/** What TLS has against a certificate. */
const DISTRUST = /CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|INVALID_PURPOSE/;

function troubleOf(error: unknown): string {
  const { code = '' } = error as NodeJS.ErrnoException;
  return DISTRUST.test(code)
    ? `is not trusted (${reasonOf(error)}). Name the CA of its certificate with TIDEMARK_JOIN_CA_FILE, or put that ` +
        'certificate right'
    : `does not answer (${reasonOf(error)}). Start it, or look at TIDEMARK_JOIN_URL`;
}

/** Of a host with several addresses, all of which failed, the reason stands in the code alone. */
function reasonOf(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException;
  return message || (code ?? String(error));
}

/** Another fleet has to be joined anew; its address as such need not stand on the disk. */
function fleetOf(url: string): string {
  return createHash('sha256').update(new URL(url).origin).digest('hex');
}
