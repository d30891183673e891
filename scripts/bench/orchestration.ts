// `npm run bench -- --orchestration`: what a backup takes beside the engine's work: from the request to the start of
// the engine's job, and from the end of its last job to the recorded result, with the whole system on this machine and
// nothing to copy. What of it storage nodes worked is told apart, by their logs. With `--against CHECKOUT` the services
// of another version do the same in turn, backup by backup, so that both meet the machine as it is at that moment.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '../demo/rest-client.ts';
import { percentiles } from './statistics.ts';
import { fill, type ServiceChoice, type Volume, WholeService } from './whole-service.ts';

const MiB = 1024 ** 2;
const REPOSITORY = 'bench';
const NODES = ['alpha', 'beta'];
/** Of the first backups, which also open connections and compile. */
const WARM_UP = 5;
/** More than all rounds make. */
const CHECKPOINTS_MAX = 128;

interface NodeLine {
  readonly msg: string;
  readonly runId?: string;
  readonly durationMs?: number;
  readonly startedAtMs?: number;
  readonly finishedAtMs?: number;
}

/** All in milliseconds. */
interface Overhead {
  readonly beforeEngine: number;
  /** Of that: until the worker has claimed the run, from the request and from its row. */
  readonly untilClaimed: number;
  readonly inQueue: number;
  readonly betweenJobs: number;
  readonly afterEngine: number;
  readonly insideNodes: number;
  readonly whole: number;
  readonly untilRunEnds: number;
}

const MEASURES: readonly (readonly [name: keyof Overhead, text: string])[] = [
  ['beforeEngine', 'request to engine start'],
  ['untilClaimed', 'of that: until a worker had claimed it'],
  ['inQueue', 'of that: from the row to the claim'],
  ['betweenJobs', 'between the jobs of copy and check'],
  ['afterEngine', 'engine end to recorded'],
  ['insideNodes', 'inside calls at storage nodes, in all'],
  ['whole', 'request to recorded'],
  ['untilRunEnds', 'request to the end of the run'],
];

/** A run that has ended, as the API shows it. */
interface EndedRun extends Omit<Run, 'steps'> {
  readonly createdAt: string;
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly steps: readonly { name: string; startedAt: string; finishedAt: string }[];
}

function linesOf(home: string, runId: string): NodeLine[] {
  return NODES.flatMap(node =>
    readFileSync(join(home, 'logs', `${node}.log`), 'utf8')
      .split('\n')
      .filter(line => line.includes(runId))
      .map(line => JSON.parse(line) as NodeLine),
  );
}

function overheadOf(run: EndedRun, requestedAtMs: number, lines: readonly NodeLine[]): Overhead {
  const jobs = lines.filter(({ msg }) => msg === 'job ended');
  const starts = jobs.map(({ startedAtMs }) => startedAtMs!);
  const ends = jobs.map(({ finishedAtMs }) => finishedAtMs!);
  const working = jobs.reduce((sum, job) => sum + job.finishedAtMs! - job.startedAtMs!, 0);
  // The catalog has the backup with the end of this step; the rest tidies up.
  const recordedAtMs = Date.parse(run.steps.find(({ name }) => name === 'publish')!.finishedAt);
  const steps = lines.filter(({ msg }) => msg === 'step done');
  return {
    beforeEngine: Math.min(...starts) - requestedAtMs,
    untilClaimed: Date.parse(run.startedAt) - requestedAtMs,
    inQueue: Date.parse(run.startedAt) - Date.parse(run.createdAt),
    betweenJobs: Math.max(...ends) - Math.min(...starts) - working,
    afterEngine: recordedAtMs - Math.max(...ends),
    insideNodes: steps.reduce((sum, { durationMs }) => sum + durationMs!, 0),
    whole: recordedAtMs - requestedAtMs,
    untilRunEnds: Date.parse(run.finishedAt) - requestedAtMs,
  };
}

/** Processor time of a process so far, in milliseconds; 0 once it is gone. */
function processorMs(pid: number | null): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    // utime and stime of proc(5), in hundredths of a second.
    return (Number(fields[11]) + Number(fields[12])) * 10;
  } catch {
    return 0;
  }
}

type Times = Map<string, number[]>;

function note(times: Times, name: string, ms: number): void {
  times.set(name, [...(times.get(name) ?? []), ms]);
}

/** One version of the services, and what was measured of it. */
class Side {
  readonly measures: Times = new Map();
  readonly steps: Times = new Map();
  readonly #service: WholeService;
  readonly #volume: Volume;
  #busyMs = new Map<string, number>();
  #rounds = 0;

  private constructor(service: WholeService, volume: Volume) {
    this.#service = service;
    this.#volume = volume;
  }

  static async start(signal: AbortSignal, choice: ServiceChoice): Promise<Side> {
    const service = await WholeService.start(signal, choice);
    try {
      await service.repository(REPOSITORY);
      const volume = await service.volume('disk', 64 * MiB);
      await service.rest.patch('/v1/volumes/disk', { checkpointLimit: CHECKPOINTS_MAX });
      await fill(volume, 0, MiB);
      await service.backUp(volume, REPOSITORY, 'full');
      return new Side(service, volume);
    } catch (error) {
      await service.stop();
      throw error;
    }
  }

  stop(): Promise<void> {
    return this.#service.stop();
  }

  async warmUp(): Promise<void> {
    await this.#service.backUp(this.#volume, REPOSITORY, 'incremental');
    this.#busyMs = this.#used();
  }

  async measure(): Promise<void> {
    const requestedAtMs = Date.now();
    const { run } = await this.#service.backUp(this.#volume, REPOSITORY, 'incremental');
    const ended = await this.#service.rest.get<EndedRun>(`/v1/runs/${run.id}`);
    const overhead = overheadOf(ended, requestedAtMs, linesOf(this.#service.home, run.id));
    for (const [name] of MEASURES) note(this.measures, name, overhead[name]);
    for (const { name, startedAt, finishedAt } of ended.steps) {
      note(this.steps, name, Date.parse(finishedAt) - Date.parse(startedAt));
    }
    this.#rounds += 1;
  }

  processorTimes(): string {
    const each = [...this.#used()].map(([name, ms]) => {
      return `${name} ${((ms - this.#busyMs.get(name)!) / this.#rounds).toFixed(0)}`;
    });
    return `processor time a backup, milliseconds: ${each.join(', ')}`;
  }

  #used(): Map<string, number> {
    return new Map([...this.#service.processes].map(([name, pid]) => [name, processorMs(pid)]));
  }
}

function cells(values: readonly number[]): string {
  const { p50, p90, p99 } = percentiles(values);
  return [p50, p90, p99].map(ms => ` ${ms.toFixed(0)} |`).join('');
}

function table({ measures, steps }: Side, rounds: number): string {
  return [
    `| milliseconds, of ${rounds} backups | p50 | p90 | p99 |`,
    '|---|---:|---:|---:|',
    ...MEASURES.map(([name, text]) => `| ${text} |${cells(measures.get(name)!)}`),
    '',
    '| step of the worker, milliseconds | p50 | p90 | p99 |',
    '|---|---:|---:|---:|',
    ...[...steps].map(([name, values]) => `| ${name} |${cells(values)}`),
  ].join('\n');
}

/** How the medians of two sides compare. */
function ratios(mine: Side, other: Side): string {
  const rows = MEASURES.map(([name, text]) => {
    const [ours, theirs] = [mine, other].map(({ measures }) => percentiles(measures.get(name)!).p50);
    return `| ${text} | ${theirs!.toFixed(0)} | ${ours!.toFixed(0)} | ${(ours! / theirs!).toFixed(2)} |`;
  });
  return ['| p50, milliseconds | other | this | ratio |', '|---|---:|---:|---:|', ...rows].join('\n');
}

export interface OrchestrationOptions {
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Folder of another version, set up like this one, whose services take turns with ours. */
  readonly against?: string | undefined;
  /** Default: the embedded PostgreSQL. */
  readonly queueUrl?: string | undefined;
}

/** Figures as text. */
export async function measureOrchestration(rounds: number, options: OrchestrationOptions): Promise<string> {
  const { signal, say, against, queueUrl } = options;
  const checkouts = against === undefined ? [undefined] : [undefined, against];
  const choices = checkouts.map((checkout, database) => ({
    checkout,
    // A database of Redis each: they would take each other's queue jobs.
    queueUrl: queueUrl?.startsWith('redis') ? new URL(`/${database}`, queueUrl).href : queueUrl,
  }));
  const sides: Side[] = [];
  try {
    for (const choice of choices) sides.push(await Side.start(signal, choice));
    for (let round = 0; round < WARM_UP; round++) for (const side of sides) await side.warmUp();
    for (let round = 0; round < rounds; round++) {
      say(`backup ${round + 1} of ${rounds}`);
      // Each goes first as often as the other.
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) await side.measure();
    }
    const [mine, other] = sides;
    const figures = sides.map(side => `${table(side, rounds)}\n\n${side.processorTimes()}`);
    return [...figures, ...(other === undefined ? [] : [ratios(mine!, other)])].join('\n\n');
  } finally {
    await Promise.all(sides.map(side => side.stop()));
  }
}
