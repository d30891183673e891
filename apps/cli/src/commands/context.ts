// What every command has at hand: the client and the output that its options ask for.
import { readFileSync } from 'node:fs';
import { type Schema, TidemarkClient } from '@tidemark/client';
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { requireGoodResult } from '../good-result.ts';
import { Output, type Terminal } from '../output.ts';
import { watchRun } from '../run-watch.ts';

export interface Surroundings {
  readonly terminal: Terminal;
  /** Sent with each call, unless `--token-file` names another. */
  readonly token?: string | undefined;
}

type Run = Schema<'Run'>;

/** For people who got the address wrong, or have not started it. */
const ADVICE = {
  nobody: 'Start it with `npm start`, or name another one with --url or TIDEMARK_URL.',
  stranger: 'Check --url or TIDEMARK_URL.',
  untrusted:
    "Name the file of the API's CA with --ca-file or TIDEMARK_CA_FILE, or put its certificate right.",
};

interface GlobalOptions {
  url: string;
  json?: boolean;
  tokenFile?: string;
  caFile?: string;
}

interface Named {
  readonly what: 'token' | 'CA';
  readonly path: string;
  /** Where its name comes from. */
  readonly from: string;
}

function readNamed({ what, path, from }: Named): string {
  try {
    // A line break at its end is not part of a token.
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code;
    throw new InvalidArgumentError(`The ${what} file ${path} cannot be read (${reason}). Check ${from}.`);
  }
}

/** What is no certificate would be taken for no CA at all. */
function readCa(path: string): string {
  const from = '--ca-file or TIDEMARK_CA_FILE';
  const ca = readNamed({ what: 'CA', path, from });
  if (ca.includes('-----BEGIN CERTIFICATE-----')) return ca;
  throw new InvalidArgumentError(`The CA file ${path} holds no certificate in PEM form. Check ${from}.`);
}

const TOKEN_NEXT = 'Put a token there: an admin makes one with `tidemark token create`.';

/** Sent with each call; undefined: none. What no token can be is not sent, and never shown. */
function readToken(file: string | undefined, given: string | undefined): string | undefined {
  if (file === undefined && given === undefined) return undefined;
  const from = '--token-file or TIDEMARK_TOKEN_FILE';
  const token = file === undefined ? given! : readNamed({ what: 'token', path: file, from });
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  const place = file === undefined ? 'TIDEMARK_TOKEN' : `The token file ${file}`;
  const fault = token.trim() === '' ? 'is empty' : 'holds no token: one is a single word of plain characters';
  throw new InvalidArgumentError(`${place} ${fault}. ${TOKEN_NEXT}`);
}

export class Context {
  readonly client: TidemarkClient;
  readonly output: Output;

  constructor(command: Command, { terminal, token }: Surroundings) {
    const { url, json, tokenFile, caFile } = command.optsWithGlobals<GlobalOptions>();
    this.client = new TidemarkClient({
      url,
      token: readToken(tokenFile, token),
      ca: caFile === undefined ? undefined : readCa(caFile),
      advice: ADVICE,
    });
    this.output = new Output(terminal, json === true);
  }

  /**
   * What a call that started a run is shown as: at once with `--no-wait`, otherwise after its end, with the
   * noun as it is then. Rejects with the run's failure, and afterwards with a result that is none to be glad of.
   */
  async finish<T extends { run: Run }>(
    started: T,
    options: {
      wait: boolean;
      refresh: () => Promise<Partial<Omit<T, 'run'>>>;
      forPeople: (answer: T) => string | Promise<string>;
    },
  ): Promise<void> {
    const { wait, refresh, forPeople } = options;
    if (!wait) {
      const follow =
        `accepted as ${started.run.kind} run ${started.run.id}; follow it with: ` +
        `tidemark run watch ${started.run.id}`;
      this.output.print(started, () => follow);
      return;
    }
    const run = await watchRun(this.client, this.output, started.run);
    const answer = { ...started, ...(await refresh()), run };
    const text = this.output.isJson ? '' : await forPeople(answer);
    this.output.print(answer, () => text);
    requireGoodResult(run);
  }
}

/** Where a call goes to: the parameters of its path. */
export const at = <T extends Record<string, string>>(path: T) => ({ params: { path } });

export function parseCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a whole number from 0 to 999999999.');
  return Number(text);
}

const MOMENT = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(Z|[+-]\d\d:\d\d))?$/;

/** A day, which begins at midnight UTC, or a moment with its zone: without one it would hang on this machine's. */
export function parseMoment(text: string): string {
  const [, day = '', clock = '00:00', zone = 'Z'] = MOMENT.exec(text) ?? [];
  const moment = new Date(`${day}T${clock}${zone}`);
  // The 31st of February would be taken for a day of March.
  const midnight = new Date(`${day}T00:00Z`);
  const isDay = !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(day);
  if (isDay && !Number.isNaN(moment.getTime())) return moment.toISOString();
  const words = 'Give a day like 2027-01-31, or a moment with its zone like 2027-01-31T08:00:00Z.';
  throw new InvalidArgumentError(words);
}

/** For every command that starts a run. */
export function withWait(command: Command): Command {
  return command.option('--no-wait', 'return as soon as the run is accepted');
}

/** For lists of what is switched on and off. */
export function withEnabled(command: Command): Command {
  return command
    .addOption(new Option('--enabled', 'only what is switched on').conflicts('disabled'))
    .option('--disabled', 'only what is switched off');
}

/** Of the same, as the API asks for it. */
export function enabledQuery<Q extends object>({
  enabled,
  disabled,
  ...query
}: Q & { enabled?: boolean; disabled?: boolean }) {
  return { ...query, ...((enabled || disabled) && ({ enabled: enabled ? 'true' : 'false' } as const)) };
}

/** For every command that shows a list. */
export function withPage(command: Command, limit?: number): Command {
  const note = limit === undefined ? 'all' : String(limit);
  return command
    .option('--limit <count>', `most items of one page (default: ${note})`, parseCount)
    .option('--cursor <cursor>', 'nextCursor of the page before');
}
