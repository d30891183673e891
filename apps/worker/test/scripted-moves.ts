// Volumes that come and go, as a scripted storage node plays them: a copy is an export that is there, a job that gets
// ready while it is, and a seal.
import { type Empty, JobStatus } from '@tidemark/proto';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

const NONE: Empty = {};
const TICK_MS = 10;

interface Arrival {
  madeBy: string;
  name: string;
  imageUri: string;
  bitmapsUri: string;
}

export class ScriptedMoves {
  readonly #node: ScriptedStorageNode;
  readonly #arrivals = new Map<string, Arrival>();
  #count = 0;
  /** By volume: the run that sealed it. */
  readonly sealed = new Map<string, string>();
  /** What happens when a seal is asked for. */
  beforeSeal: () => void = () => {};

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  /** Copies on their way here. */
  get arriving(): number {
    return this.#arrivals.size;
  }

  /** As a restart does to copies that were not accepted. */
  forget(): void {
    for (const volumeId of [...this.#arrivals.keys()]) this.#drop(volumeId);
  }

  handlers(): Handlers {
    return {
      prepareArrival: ({ volumeId, name, step }) => {
        const known = this.#arrivals.get(volumeId);
        if (known?.madeBy === step.runId) return known;
        const [imageUri, bitmapsUri] = ['image', 'bitmaps'].map(part =>
          this.#node.share(`${part}-${volumeId}-${++this.#count}`),
        );
        const arrival = { madeBy: step.runId, name, imageUri: imageUri!, bitmapsUri: bitmapsUri! };
        this.#arrivals.set(volumeId, arrival);
        return arrival;
      },
      discardArrival: ({ volumeId }) => {
        this.#drop(volumeId);
        return NONE;
      },
      acceptArrival: ({ volumeId, imageUri, step }) => {
        const arrival = this.#arrivals.get(volumeId);
        if (arrival === undefined || arrival.madeBy !== step.runId || arrival.imageUri !== imageUri)
          throw refuse('volume-not-found', `the copy of ${volumeId}`);
        this.#node.createVolume({ volumeId, name: arrival.name, sizeBytes: 4096, format: 'raw' });
        this.#drop(volumeId);
        return NONE;
      },
      openArrival: ({ volumeId }) => this.#node.volume(volumeId),
      startMove: ({ imageUri, step }) => this.#start(`move-${step.runId}`, imageUri),
      sealVolume: ({ volumeId, bitmapsUri, step }) => this.#seal({ volumeId, bitmapsUri, runId: step.runId }),
      unsealVolume: ({ volumeId }) => {
        this.sealed.delete(volumeId);
        return NONE;
      },
    };
  }

  #drop(volumeId: string): void {
    const arrival = this.#arrivals.get(volumeId);
    this.#arrivals.delete(volumeId);
    for (const uri of arrival ? [arrival.imageUri, arrival.bitmapsUri] : []) this.#node.unshare(uri);
  }

  #start(jobId: string, uri: string): { jobId: string } {
    const { jobs } = this.#node;
    if (jobs.has(jobId)) return { jobId };
    if (!this.#node.canReach(uri)) throw refuse('io-error', `nothing is at ${uri}`);
    const status = JobStatus.fromPartial({ jobId, type: 'mirror', state: 'running', totalBytes: 4096 });
    jobs.set(jobId, status);
    const timer = setInterval(() => {
      if (jobs.get(jobId) !== status || status.state === 'concluded') return clearInterval(timer);
      if (!this.#node.canReach(uri)) {
        status.state = 'concluded';
        status.error = { code: 'io-error', message: `The connection to ${uri} was lost.` };
      } else if (!this.#node.holdJobs) {
        status.state = 'ready';
        status.currentBytes = status.totalBytes;
      }
    }, TICK_MS).unref();
    return { jobId };
  }

  #seal({ volumeId, bitmapsUri, runId }: { volumeId: string; bitmapsUri: string; runId: string }) {
    this.beforeSeal();
    const answer = { createdAtMs: 1, checkpoints: [] };
    if (this.sealed.get(volumeId) === runId) return answer;
    const job = this.#node.jobs.get(`move-${runId}`);
    if (job?.state !== 'ready') throw refuse('job-state', `move-${runId} is ${job?.state}`);
    if (!this.#node.canReach(bitmapsUri)) throw refuse('io-error', `nothing is at ${bitmapsUri}`);
    job.state = 'concluded';
    this.sealed.set(volumeId, runId);
    return answer;
  }
}
