// Frozen moments for others to read: each an export of an unguessable name that nobody is told of but who asked for
// it, with what had changed since each checkpoint. The name ends with the moment.
import { type BlockGraph, PERMISSION } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { NbdExports } from '../exports/nbd-exports.ts';
import { checkId } from '../host/plain-id.ts';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import { unguessableName } from '../repository/partial-file.ts';
import { dirtyBitmapContext } from '../volume/dirty-bitmap-context.ts';
import type { Volume } from '../volume/volume.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import type { Moment } from './moment.ts';
import type { Moments } from './moments.ts';

export interface ExportRequest {
  readonly volumeId: string;
  readonly exportId: string;
  /** Empty: none is made. */
  readonly checkpointId: string;
  readonly checkpointName: string;
  readonly checkpointDescription: string;
  readonly scratchLimitBytes: number;
  /** Empty: all of the disk is readable. */
  readonly baseCheckpointId: string;
}

export interface ExportAnswer {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly pointInTimeMs: number;
  readonly contexts: readonly string[];
}

export class MomentExports {
  readonly #graph: BlockGraph;
  readonly #exports: NbdExports;
  readonly #volumes: VolumeRegistry;
  readonly #moments: Moments;
  readonly #now: () => number;
  readonly #answers = new WeakMap<Moment, ExportAnswer>();

  constructor(options: {
    graph: BlockGraph;
    exports: NbdExports;
    volumes: VolumeRegistry;
    moments: Moments;
    now: () => number;
  }) {
    this.#graph = options.graph;
    this.#exports = options.exports;
    this.#volumes = options.volumes;
    this.#moments = options.moments;
    this.#now = options.now;
  }

  /**
   * Resolves after the point in time, with the moment exported until it is released or lost; a repeated request is
   * answered as before while that is so, and with `moment-lost` after. Rejects with what `Moments.freeze` does.
   */
  start(request: ExportRequest): Promise<ExportAnswer> {
    const momentId = checkId(request.exportId, 'export');
    return this.#volumes.inTurn(request.volumeId, async volume => {
      const known = this.#moments.find(momentId);
      if (known !== undefined) {
        known.assertWhole();
        return this.#answers.get(known)!;
      }
      const checkpoint = this.#checkpoint(volume, request);
      const base = request.baseCheckpointId;
      const baseNames = base === '' ? undefined : volume.chain.namesFrom(base);
      const { scratchLimitBytes } = request;
      const wanted = { momentId, kind: 'export', checkpoint, baseNames, scratchLimitBytes } as const;
      const moment = await this.#moments.freeze(volume, wanted);
      try {
        return this.#export(volume, moment);
      } catch (error) {
        await this.#moments.release(momentId);
        if (checkpoint) await volume.deleteCheckpoint(checkpoint.checkpointId);
        throw error;
      }
    });
  }

  #export(volume: Volume, moment: Moment): ExportAnswer {
    const user = `export of moment ${moment.momentId}`;
    const reader = this.#graph.attach(moment.snapshotNode, { user, uses: PERMISSION.consistentRead });
    const extra = [...moment.changes].map(([checkpointId, bits]) =>
      dirtyBitmapContext(checkpointId, () => bits),
    );
    const name = unguessableName();
    const uri = this.#exports.add({
      name,
      listed: false,
      readOnly: true,
      node: reader,
      allocationDepth: false,
      extraContexts: () => extra,
    });
    moment.usedUntil(async () => {
      await this.#exports.remove(name, { mode: 'hard' });
      await reader.close();
    });
    // Who reads it is to notice at once, and the scratch is of no use any more.
    moment.onBroken(() => moment.releaseSoon());
    const { sizeBytes } = volume.record;
    const contexts = extra.map(context => context.name);
    const answer = { uri, sizeBytes, pointInTimeMs: moment.pointInTimeMs, contexts };
    this.#answers.set(moment, answer);
    return answer;
  }

  #checkpoint(volume: Volume, request: ExportRequest): CheckpointRecord | undefined {
    const { checkpointId, checkpointName: name, checkpointDescription: description } = request;
    if (checkpointId === '') return undefined;
    checkId(checkpointId, 'checkpoint');
    if (volume.chain.has(checkpointId)) throw lost(volume, checkpointId);
    const granularityBytes = CHECKPOINT_GRANULARITY_BYTES;
    return {
      checkpointId,
      name,
      description,
      createdAtMs: this.#now(),
      granularityBytes,
      originBackupId: '',
    };
  }
}

function lost(volume: Volume, checkpointId: string): TidemarkError {
  return new TidemarkError(
    'moment-lost',
    `The export of volume '${volume.record.name}' with checkpoint ${checkpointId} ended with its storage node. ` +
      'Delete the checkpoint and export again.',
  );
}
