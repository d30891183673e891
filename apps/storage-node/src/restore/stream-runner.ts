// Pulls what volumes of instant restores still read from their backups into their own images. The storage node does so
// by itself from the moment such a volume is open: it needs nobody to tell it after a restart.
import { type BlockGraph, EngineError, startStream } from '@tidemark/engine';
import type { JobRunner } from '../host/job-runner.ts';
import { STREAM_CANCEL_PAUSE_MS } from '../limits.ts';
import type { Volume } from '../volume/volume.ts';
import { repointLayer, sourceNodeName } from '../volume/volume-layers.ts';
import { layersOf } from '../volume/volume-record.ts';
import { canBeReadElsewhere } from './backup-probe.ts';
import { JobDamage } from './job-damage.ts';

export class StreamRunner {
  readonly #graph: BlockGraph;
  readonly #jobs: JobRunner;

  constructor(options: { graph: BlockGraph; jobs: JobRunner }) {
    this.#graph = options.graph;
    this.#jobs = options.jobs;
  }

  /** Good to repeat: one that goes on is left alone. Without effect on a volume that stands alone. */
  async start(volume: Volume): Promise<void> {
    const { volumeId, source } = volume.record;
    const id = streamJobId(volumeId);
    const known = this.#jobs.find(id);
    if (source === undefined || known?.isEnded === false) return;
    if (known !== undefined) this.#jobs.dismiss(id);
    const damage = new JobDamage();
    for (const { offset, length } of source.damage) damage.add(offset, length);
    const job = await startStream({
      id,
      clock: this.#jobs.clock,
      graph: this.#graph,
      jobs: this.#jobs.registry,
      device: volume.layerNode(layersOf(volume.record)[0]!).name,
      speedBytesPerSecond: source.speedBytesPerSecond,
      // Guests go on, and the job where it was, once there is space again and somebody resumes it.
      onError: 'enospc',
      onCancelled: () => void this.#unblock(volume),
      onUnreadable: async (offset, length) => {
        const { name: volumeName } = volume.record;
        const whole = this.#graph.get(sourceNodeName(volumeId));
        if (!(await canBeReadElsewhere(whole, offset))) throw backupAway(volumeName, offset);
        const known = volume.record.source?.damage.some(hole => hole.offset === offset);
        await volume.addHole({ offset, length });
        if (!known) damage.add(offset, length);
      },
      access: {
        filenameOf: () => '',
        isCalled: () => false,
        setReadOnly: async () => {},
        // The header first: a record that still names the source does no harm.
        async repoint(node, pointer) {
          const image = await repointLayer(node, pointer);
          await volume.dropSource();
          return image;
        },
      },
    });
    this.#jobs.adopt(job, async () => {}, damage);
  }

  /** Until the cancelled job has ended: it may be about to wait only now, and guests may leave later. */
  async #unblock(volume: Volume): Promise<void> {
    const record = this.#jobs.find(streamJobId(volume.record.volumeId));
    while (record?.isEnded === false) {
      volume.cancelSourceReads();
      const done = new AbortController();
      void record.ended.then(() => done.abort());
      await this.#jobs.clock.sleep(STREAM_CANCEL_PAUSE_MS, done.signal);
    }
  }

  /** Bytes that are still to be looked at. */
  leftBytes(volume: Volume): number {
    const { volumeId, sizeBytes, source } = volume.record;
    if (source === undefined) return 0;
    const progress = this.#jobs.find(streamJobId(volumeId))?.snapshot();
    return sizeBytes - (progress?.currentBytes ?? 0);
  }

  /** Ends the job, if there is one, and forgets it. What it waits for has to have given up. */
  async end(volumeId: string): Promise<void> {
    const record = this.#jobs.find(streamJobId(volumeId));
    if (record === undefined) return;
    record.job.cancelInternally();
    await record.ended;
    this.#jobs.dismiss(streamJobId(volumeId));
  }
}

export function streamJobId(volumeId: string): string {
  return `stream-${volumeId}`;
}

function backupAway(volumeName: string, offset: number): EngineError {
  const text =
    `Nothing of the backup can be read any more, from ${offset} on: its repository's disk seems to be away. ` +
    `Volume '${volumeName}' goes on reading from the backup. Bring the disk back; the rest is pulled when the ` +
    'run tries again or the storage node is restarted. If the backup is lost, restore it to a new volume with holes.';
  return new EngineError('io', text, { op: 'stream', offset, errno: 'ENODEV' });
}
