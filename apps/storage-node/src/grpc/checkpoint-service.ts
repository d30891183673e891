// Checkpoints of volumes, and what changed between them, over gRPC.
import {
  type ChangedBlocksRequest,
  type CheckpointServiceServer,
  CheckpointServiceService,
  TidemarkError,
} from '@tidemark/proto';
import { checkId } from '../host/plain-id.ts';
import {
  CHANGED_RANGES_PART,
  CHECKPOINT_GRANULARITY_BYTES,
  DESCRIPTION_BYTES_MAX,
  NAME_LENGTH_MAX,
} from '../limits.ts';
import { changedBytes, changedParts } from '../volume/changed-blocks.ts';
import type { Volume } from '../volume/volume.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { toChangedBlocks, toCheckpoint } from './convert.ts';
import { type CallContext, query, step } from './handlers.ts';
import type { GrpcService } from './server.ts';
import { stream } from './stream.ts';

interface CheckpointServiceOptions {
  readonly context: CallContext;
  readonly volumes: VolumeRegistry;
  readonly now: () => number;
}

export function checkpointService({ context, volumes, now }: CheckpointServiceOptions): GrpcService {
  const methods = CheckpointServiceService;
  const bitsOf = ({ volumeId, sinceCheckpointId, untilCheckpointId }: ChangedBlocksRequest) =>
    volumes.get(volumeId).chain.changedSince(sinceCheckpointId, untilCheckpointId || undefined);
  const implementation: CheckpointServiceServer = {
    createCheckpoint: step(context, methods.createCheckpoint, 'answer-again', request =>
      volumes.inTurn(request.volumeId, async volume => {
        const checkpointId = checkId(request.checkpointId, 'checkpoint');
        const { name, description } = request;
        checkTexts({ name, description });
        // Made for the same run, which never got the answer: it died with an earlier life of the process.
        if (volume.chain.has(checkpointId)) return toCheckpoint(summaryOf(volume, checkpointId));
        const granularityBytes = CHECKPOINT_GRANULARITY_BYTES;
        await volume.addCheckpoint({ checkpointId, name, description, createdAtMs: now(), granularityBytes });
        return toCheckpoint(volume.chain.summaries().at(-1)!);
      }),
    ),
    deleteCheckpoint: step(context, methods.deleteCheckpoint, 'do-again', ({ volumeId, checkpointId }) =>
      volumes.inTurn(volumeId, async volume => {
        if (volume.chain.has(checkpointId)) await volume.deleteCheckpoint(checkpointId);
        return {};
      }),
    ),
    updateCheckpoint: step(context, methods.updateCheckpoint, 'do-again', request =>
      volumes.inTurn(request.volumeId, async volume => {
        const { checkpointId, name, description } = request;
        checkTexts({ name, description });
        await volume.describeCheckpoint(checkpointId, { name, description });
        return toCheckpoint(summaryOf(volume, checkpointId));
      }),
    ),
    listCheckpoints: query(context, methods.listCheckpoints, ({ volumeId }) => ({
      checkpoints: volumes.get(volumeId).chain.summaries().map(toCheckpoint),
    })),
    countChangedBytes: query(context, methods.countChangedBytes, request => {
      const bits = bitsOf(request);
      return { changedBytes: changedBytes(bits, request), granularityBytes: bits.granularityBytes };
    }),
    // All parts show the moment of the call.
    listChangedBlocks: stream(context, methods.listChangedBlocks, function* (request) {
      for (const part of changedParts(bitsOf(request), request, CHANGED_RANGES_PART)) {
        yield toChangedBlocks(part);
      }
    }),
  };
  return { definition: methods, implementation };
}

const summaryOf = ({ chain }: Volume, checkpointId: string) =>
  chain.summaries().find(summary => summary.checkpointId === checkpointId)!;

/** Throws `invalid-name`, `invalid-request`. */
export function checkTexts({
  name,
  description = '',
}: {
  name?: string | undefined;
  description?: string | undefined;
}) {
  if (name !== undefined && (name.length === 0 || name.length > NAME_LENGTH_MAX)) {
    const text = `A checkpoint's name has 1 to ${NAME_LENGTH_MAX} characters, not ${name.length}.`;
    throw new TidemarkError('invalid-name', text);
  }
  const bytes = Buffer.byteLength(description);
  if (bytes <= DESCRIPTION_BYTES_MAX) return;
  const text = `A checkpoint's description has at most ${DESCRIPTION_BYTES_MAX} bytes, not ${bytes}. Shorten it.`;
  throw new TidemarkError('invalid-request', text);
}
