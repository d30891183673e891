// One volume of a group, from the durable work before the instant to the record of its checkpoint. The volume's turn,
// and that of its checkpoints, are the group's meanwhile: whatever else would change them waits.
import type { TransactionAction } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import { CHECKPOINT_GRANULARITY_BYTES } from '../limits.ts';
import { type BackupRunner, toOnCbwError } from '../moment/backup-runner.ts';
import type { DiskRange } from '../moment/moment-actions.ts';
import type { Moments, StagedMoment } from '../moment/moments.ts';
import type { StagedCheckpoint } from '../volume/staged-checkpoint.ts';
import type { Volume } from '../volume/volume.ts';
import type { CheckpointRecord } from '../volume/volume-record.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { ofVolume } from './group-errors.ts';
import { type GroupMemberRecord, type GroupRecord, type MemberInstant, titleOf } from './group-record.ts';

export interface MemberHost {
  readonly volumes: VolumeRegistry;
  readonly moments: Moments;
  readonly backups: BackupRunner;
}

export interface MomentRequest {
  readonly momentId: string;
  /** Empty: all of the disk. */
  readonly baseCheckpointId: string;
  /** Empty: break-snapshot. */
  readonly onCbwError: string;
  readonly cbwTimeoutMs: number;
  readonly scratchLimitBytes: number;
  readonly also: readonly DiskRange[];
}

export interface MemberRequest {
  readonly volumeId: string;
  readonly checkpointId: string;
  readonly checkpointName: string;
  readonly checkpointDescription: string;
  /** Undefined: a checkpoint alone. */
  readonly moment?: MomentRequest | undefined;
}

export type HeldVolume = Awaited<ReturnType<VolumeRegistry['hold']>>;

/** staged → entered, at the instant → published, when its record is durable. gone: nothing is left of it. */
type MemberState = 'staged' | 'entered' | 'published' | 'gone';

interface Parts {
  readonly request: MemberRequest;
  readonly checkpoint: StagedCheckpoint;
  readonly moment: StagedMoment | undefined;
  readonly grownBytes: number;
}

export class GroupMember {
  readonly volume: Volume;
  readonly #host: MemberHost;
  readonly #end: () => void;
  readonly #parts: Parts;
  #state: MemberState = 'staged';

  private constructor(host: MemberHost, { volume, end }: HeldVolume, parts: Parts) {
    this.volume = volume;
    this.#host = host;
    this.#end = end;
    this.#parts = parts;
  }

  /** Rejects with what is wrong with the volume, which is let go then, and with nothing left behind. */
  static async stage(
    host: MemberHost,
    group: Pick<GroupRecord, 'groupId' | 'groupName'>,
    { held, request }: { held: HeldVolume; request: MemberRequest },
  ): Promise<GroupMember> {
    const { volume } = held;
    const { checkpointId } = request;
    const undo: (() => Promise<void>)[] = [];
    try {
      assertFree(volume);
      const base = request.moment?.baseCheckpointId || undefined;
      const baseNames = base && volume.chain.namesFrom(base);
      const checkpoint = await volume.stageCheckpoint(recordOf(request, 0));
      undo.push(() => checkpoint.withdraw());
      const moment = request.moment && (await freeze(host, volume, { ...request, baseNames }));
      if (moment) undo.push(() => moment.withdraw());
      // Most of it now, so that little is left to be made durable at the release.
      await volume.node.flush();
      volume.use.group = { groupId: group.groupId, title: titleOf(group), checkpointId };
      const grownBytes = base ? volume.chain.grownBytesSince(base) : 0;
      return new GroupMember(host, held, { request, checkpoint, moment, grownBytes });
    } catch (error) {
      for (const step of undo.reverse()) await step().catch(() => undefined);
      held.end();
      throw ofVolume(error, volume.record.name);
    }
  }

  /** Of the group's transaction. */
  actions(): TransactionAction[] {
    const { checkpoint, moment, request } = this.#parts;
    return [...checkpoint.actions(recordOf(request, 0)), ...(moment?.actions ?? [])];
  }

  /** In the same turn as the transaction ends. */
  enter(pointInTimeMs: number): MemberInstant {
    const { checkpoint, moment, request, grownBytes } = this.#parts;
    const { volumeId, checkpointId } = request;
    this.#state = 'entered';
    checkpoint.enter(recordOf(request, pointInTimeMs));
    const frozen = moment?.enter(pointInTimeMs);
    const nothing = { dirtyBytes: 0, grownBytes: 0 };
    const sizes = frozen ? this.#host.backups.adopt(this.volume, frozen, grownBytes) : nothing;
    return { volumeId, checkpointId, pointInTimeMs, ...sizes };
  }

  /** Makes the checkpoint durable and lets the volume go. Rejects with nothing left of it, as far as that goes. */
  async publish(): Promise<void> {
    const { checkpoint, request } = this.#parts;
    try {
      await checkpoint.publish(() => this.#releaseMoment());
      this.#state = 'published';
    } catch (error) {
      this.#state = this.volume.chain.has(request.checkpointId) ? 'published' : 'gone';
      throw ofVolume(error, this.volume.record.name);
    } finally {
      this.#end();
    }
  }

  /** Good to repeat where it rejects. Afterwards nothing of it is left, and the volume is let go. */
  async undo(): Promise<void> {
    const { checkpoint, moment, request } = this.#parts;
    if (this.#state === 'staged') {
      this.#state = 'gone';
      // What stays of it is swept by the next change of checkpoints, or by the next start.
      await moment?.withdraw().catch(() => undefined);
      await checkpoint.withdraw().catch(() => undefined);
      this.#end();
    } else if (this.#state === 'entered') {
      this.#state = 'published';
      await checkpoint.retract(() => this.#releaseMoment()).finally(this.#end);
    } else if (this.#state === 'published') {
      const momentId = request.moment?.momentId ?? '';
      await undoRecorded(this.#host, { ...request, momentId });
    }
    this.#state = 'gone';
    this.volume.use.group = undefined;
  }

  async #releaseMoment(): Promise<void> {
    const { moment, request } = this.#parts;
    if (moment !== undefined) await this.#host.backups.release(request.checkpointId);
  }
}

/** Takes a member's checkpoint and moment away, whatever there is of them. Good to repeat. */
export async function undoRecorded(
  { volumes, backups }: MemberHost,
  { volumeId, checkpointId }: GroupMemberRecord,
): Promise<void> {
  if (!volumes.knows(volumeId)) return;
  await volumes.inTurn(volumeId, async volume => {
    await backups.release(checkpointId);
    const hold = volume.use.group;
    if (hold?.checkpointId === checkpointId) volume.use.group = undefined;
    try {
      if (volume.chain.has(checkpointId)) await volume.deleteCheckpoint(checkpointId);
    } catch (error) {
      volume.use.group = hold;
      throw error;
    }
  });
}

/** Throws `volume-in-group`, `volume-busy`, `volume-not-ready`. */
export function assertFree({ use, record }: Volume): void {
  use.assertNotOfGroup();
  use.assertNotOverwritten();
  if (record.state === 'ready') return;
  const text = `Volume '${record.name}' is being restored. Wait until that has ended.`;
  throw new TidemarkError('volume-not-ready', text);
}

function freeze(
  { moments }: MemberHost,
  volume: Volume,
  { checkpointId, moment, baseNames }: MemberRequest & { baseNames: readonly string[] | '' | undefined },
): Promise<StagedMoment> {
  const { onCbwError, also, scratchLimitBytes, cbwTimeoutMs } = moment!;
  return moments.stage(volume, {
    momentId: checkpointId,
    kind: 'backup',
    baseNames: baseNames || undefined,
    also,
    scratchLimitBytes,
    cbwTimeoutMs,
    onCbwError: toOnCbwError(onCbwError),
  });
}

function recordOf(request: MemberRequest, createdAtMs: number): CheckpointRecord {
  return {
    checkpointId: request.checkpointId,
    name: request.checkpointName,
    createdAtMs,
    granularityBytes: CHECKPOINT_GRANULARITY_BYTES,
    description: request.checkpointDescription,
    originBackupId: '',
  };
}
