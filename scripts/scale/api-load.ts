// Requests at a fixed rate, whatever the answers take: each is timed from when it was due, so that a service that
// stands still is not asked less.
import { setTimeout as delay } from 'node:timers/promises';

export interface Load {
  readonly latenciesMs: number[];
  readonly failures: string[];
}

/** `paths` in turn, until `signal` aborts; resolves when the last answer is there. */
export async function loadAt(
  ratePerSecond: number,
  url: string,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<Load> {
  const load: Load = { latenciesMs: [], failures: [] };
  const going = new Set<Promise<void>>();
  const beganAt = performance.now();
  for (let sent = 0; !signal.aborted; sent += 1) {
    const dueAt = beganAt + (sent * 1_000) / ratePerSecond;
    const early = dueAt - performance.now();
    if (early > 0) await delay(early, undefined, { signal }).catch(() => {});
    if (signal.aborted) break;
    const call = ask(`${url}${paths[sent % paths.length]}`, dueAt, load);
    going.add(call);
    call.finally(() => going.delete(call));
  }
  await Promise.all(going);
  return load;
}

async function ask(url: string, dueAt: number, load: Load): Promise<void> {
  try {
    const answer = await fetch(url);
    await answer.text();
    if (!answer.ok) load.failures.push(`${answer.status} ${url}`);
  } catch (error) {
    load.failures.push(`${url}: ${String(error)}`);
  }
  load.latenciesMs.push(performance.now() - dueAt);
}
