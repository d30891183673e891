// Commands around a group's instant, such as the freezing of a file system or a database: an operator's programs out
// of an allow list, started without a shell, killed at their time limit.
import { type ChildProcess, spawn } from 'node:child_process';
import { type Clock, systemClock } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import {
  HOOK_OUTPUT_BYTES_MAX,
  HOOK_OUTPUT_WAIT_MS,
  HOOK_TIMEOUT_MS,
  HOOK_TIMEOUT_MS_MAX,
} from '../limits.ts';

/** Program, an absolute path, by the hook's name. */
export type HookPrograms = ReadonlyMap<string, string>;

export interface HookRequest {
  readonly hook: string;
  readonly phase: string;
  readonly volumeNames: readonly string[];
  readonly groupName: string;
  /** 0: HOOK_TIMEOUT_MS. */
  readonly timeoutMs: number;
}

export interface HookAnswer {
  readonly output: string;
  readonly tookMs: number;
}

const PHASES: readonly string[] = ['freeze', 'thaw'];

/** What programs find their own programs by. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class Hooks {
  readonly #programs: HookPrograms;
  readonly #clock: Clock;
  readonly #running = new Set<ChildProcess>();

  constructor(options: { programs: HookPrograms; clock?: Clock }) {
    this.#programs = options.programs;
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * Runs it to its end. Rejects with `hook-not-found`, `invalid-request`, and with `hook-failed` where it cannot be
   * started, fails, or takes too long: all that it had started is killed then. A thaw may always be asked for.
   */
  async run(request: HookRequest): Promise<HookAnswer> {
    const { hook, phase, groupName, volumeNames } = request;
    const program = this.#find(request);
    const limitMs = request.timeoutMs || HOOK_TIMEOUT_MS;
    const beganMs = this.#clock.monotonicMs();
    const child = spawn(program, [phase, groupName], {
      cwd: '/',
      env: {
        PATH,
        TIDEMARK_HOOK_PHASE: phase,
        TIDEMARK_HOOK_GROUP: groupName,
        TIDEMARK_HOOK_VOLUMES: volumeNames.join(' '),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: what it has started goes with it.
      detached: true,
    });
    this.#running.add(child);
    const output = keepEnd(child);
    const over = new AbortController();
    let isLate = false;
    void this.#clock.sleep(limitMs, over.signal).then(() => {
      if (over.signal.aborted) return;
      isLate = true;
      killAll(child);
    });
    const closed = new Promise<void>(resolve => child.once('close', () => resolve()));
    const end = await ended(child);
    // What it has left behind may keep its outputs open for ever.
    await Promise.race([closed, this.#clock.sleep(HOOK_OUTPUT_WAIT_MS, over.signal)]);
    over.abort();
    this.#running.delete(child);
    const fault = isLate ? `took longer than ${limitMs} ms and was killed` : end;
    if (fault !== '') throw failed(`Hook '${hook}' (${phase}) ${fault}`, output());
    return { output: output(), tookMs: Math.round(this.#clock.monotonicMs() - beganMs) };
  }

  /** Kills those that run. */
  close(): void {
    for (const child of this.#running) killAll(child);
  }

  #find({ hook, phase, timeoutMs, groupName, volumeNames }: HookRequest): string {
    const invalid = (text: string) => new TidemarkError('invalid-request', text);
    if (!PHASES.includes(phase)) throw invalid(`A hook's phase is ${PHASES.join(' or ')}, not '${phase}'.`);
    if (timeoutMs > HOOK_TIMEOUT_MS_MAX) {
      throw invalid(`A hook may take ${HOOK_TIMEOUT_MS_MAX} ms at most, not ${timeoutMs}.`);
    }
    if ([groupName, ...volumeNames].some(text => text.includes('\0'))) {
      throw invalid('Names that a hook is told have no NUL in them.');
    }
    const program = this.#programs.get(hook);
    if (program !== undefined) return program;
    const known = [...this.#programs.keys()].map(name => `'${name}'`).join(', ') || 'none';
    const text = `This storage node has no hook '${hook}'; there are: ${known}. Name its program in TIDEMARK_HOOKS.`;
    throw new TidemarkError('hook-not-found', text);
  }
}

/** Empty where it ended well; else what became of it. */
function ended(child: ChildProcess): Promise<string> {
  return new Promise(resolve => {
    child.once('error', error => resolve(`could not be started: ${error.message}`));
    child.once('exit', (status, signal) => {
      if (status === 0) resolve('');
      else resolve(status === null ? `was ended by ${signal}` : `ended with exit status ${status}`);
    });
  });
}

/** The end of both outputs, in the order in which it came. */
function keepEnd(child: ChildProcess): () => string {
  let kept = Buffer.alloc(0);
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (bytes: Buffer) => {
      kept = Buffer.concat([kept, bytes]).subarray(-HOOK_OUTPUT_BYTES_MAX);
    });
    stream?.on('error', () => undefined);
  }
  return () => kept.toString('utf8').trim();
}

function killAll({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended in between.
  }
}

function failed(what: string, output: string): TidemarkError {
  const said = output === '' ? '' : ` It said: ${output.slice(-500)}`;
  return new TidemarkError(
    'hook-failed',
    `${what}. Look at its program on the storage node, then try again.${said}`,
  );
}
