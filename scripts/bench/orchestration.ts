// `npm run bench -- --orchestration`: what a backup takes beside the engine's work: from the request to the start of
// the engine's job, and from the end of its last job to the recorded result, with the whole system on this machine and
// nothing to copy. What of it storage nodes worked is told apart, by their logs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Run } from '../demo/rest-client.ts';
import { percentiles } from './statistics.ts';
import { fill, type Volume, WholeService } from './whole-service.ts';

const MiB = 1024 ** 2;
const REPOSITORY = 'bench';
const NODES = ['alpha', 'beta'];
/** Of the first backups, which also open connections and compile. */
const WARM_UP = 5;

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

/** A run that has ended, as the API shows it. */
interface EndedRun extends Run {
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

function table(overheads: readonly Overhead[], stepTimes: ReadonlyMap<string, number[]>): string {
  const row = (name: string, values: readonly number[]) => {
    const { p50, p90, p99 } = percentiles(values);
    return `| ${name} | ${p50.toFixed(0)} | ${p90.toFixed(0)} | ${p99.toFixed(0)} |`;
  };
  return [
    `| milliseconds, of ${overheads.length} backups | p50 | p90 | p99 |`,
    '|---|---|---|---|',
    row(
      'request to engine start',
      overheads.map(one => one.beforeEngine),
    ),
    row(
      'of that: until a worker had claimed it',
      overheads.map(one => one.untilClaimed),
    ),
    row(
      'of that: from the row to the claim',
      overheads.map(one => one.inQueue),
    ),
    row(
      'between the jobs of copy and check',
      overheads.map(one => one.betweenJobs),
    ),
    row(
      'engine end to recorded',
      overheads.map(one => one.afterEngine),
    ),
    row(
      'inside calls at storage nodes, in all',
      overheads.map(one => one.insideNodes),
    ),
    row(
      'request to recorded',
      overheads.map(one => one.whole),
    ),
    row(
      'request to the end of the run',
      overheads.map(one => one.untilRunEnds),
    ),
    '',
    '| step of the worker, milliseconds | p50 | p90 | p99 |',
    '|---|---|---|---|',
    ...[...stepTimes].map(([name, values]) => row(name, values)),
  ].join('\n');
}

/** Figures as text. */
export async function measureOrchestration(
  rounds: number,
  options: { signal: AbortSignal; say: (text: string) => void },
): Promise<string> {
  const service = await WholeService.start(options.signal);
  try {
    await service.repository(REPOSITORY);
    const volume: Volume = await service.volume('disk', 64 * MiB);
    await fill(volume, 0, MiB);
    await service.backUp(volume, REPOSITORY, 'full');
    const overheads: Overhead[] = [];
    const used = () => new Map([...service.processes].map(([name, pid]) => [name, processorMs(pid)]));
    let before = used();
    const stepTimes = new Map<string, number[]>();
    for (let round = -WARM_UP; round < rounds; round++) {
      options.say(`backup ${round + 1} of ${rounds}`);
      if (round === 0) before = used();
      const requestedAtMs = Date.now();
      const { run } = await service.backUp(volume, REPOSITORY, 'incremental');
      if (round < 0) continue;
      const ended = await service.rest.get<EndedRun>(`/v1/runs/${run.id}`);
      overheads.push(overheadOf(ended, requestedAtMs, linesOf(service.home, run.id)));
      for (const { name, startedAt, finishedAt } of ended.steps) {
        const times = stepTimes.get(name) ?? [];
        times.push(Date.parse(finishedAt) - Date.parse(startedAt));
        stepTimes.set(name, times);
      }
    }
    const after = used();
    const each = [...after].map(([name, ms]) => `${name} ${((ms - before.get(name)!) / rounds).toFixed(0)}`);
    return `${table(overheads, stepTimes)}\n\nprocessor time a backup, milliseconds: ${each.join(', ')}`;
  } finally {
    await service.stop();
  }
}
