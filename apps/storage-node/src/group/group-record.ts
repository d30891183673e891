// What of a group of volumes is on the disk: groups/GROUP.json, from before anything is staged for it until long after
// it was decided. Its states, each durable before what follows from it is done:
//
//   prepared  nothing of it counts: a start that finds it so undoes whatever is there
//   released  its checkpoints are durable, and whoever asked may have been told so: in doubt until it is decided
//   undoing   it is to go: a start that finds it so goes on with that
//   kept, undone  decided; remembered, so that late and repeated calls are answered rightly
import { z } from 'zod';
import type { StateStore } from '../host/state-store.ts';
import { GROUPS_REMEMBERED_MAX } from '../limits.ts';

const FOLDER = 'groups';
const SUFFIX = '.json';

const memberSchema = z.strictObject({
  volumeId: z.string(),
  checkpointId: z.string(),
  /** Empty: of a checkpoint alone. */
  momentId: z.string(),
});

const instantSchema = z.strictObject({
  volumeId: z.string(),
  checkpointId: z.string(),
  pointInTimeMs: z.int().nonnegative(),
  dirtyBytes: z.int().nonnegative(),
  grownBytes: z.int().nonnegative(),
});

/** What the group's commit and release were answered with. */
const proofSchema = z.strictObject({
  fenceId: z.string(),
  fencedAtMs: z.int().nonnegative(),
  drainedInMs: z.number(),
  tookMs: z.number(),
  instants: z.array(instantSchema),
  heldMs: z.number(),
  waits: z.int().nonnegative(),
  waitP99Ms: z.number(),
  waitMaxMs: z.number(),
});

const groupSchema = z.strictObject({
  version: z.literal(1),
  groupId: z.string(),
  groupName: z.string(),
  /** The one that prepared it. */
  runId: z.string(),
  state: z.enum(['prepared', 'released', 'undoing', 'kept', 'undone']),
  sinceMs: z.int().nonnegative(),
  fenceLimitMs: z.int().nonnegative(),
  members: z.array(memberSchema),
  proof: proofSchema.optional(),
  /** Of one that was undone: why. */
  reason: z.string().default(''),
});

export type GroupRecord = z.infer<typeof groupSchema>;
export type GroupMemberRecord = z.infer<typeof memberSchema>;
export type MemberInstant = z.infer<typeof instantSchema>;
export type GroupProof = z.infer<typeof proofSchema>;

export function isDecided({ state }: GroupRecord): boolean {
  return state === 'kept' || state === 'undone';
}

/** In words. */
export function titleOf({ groupName, groupId }: Pick<GroupRecord, 'groupName' | 'groupId'>): string {
  return groupName === '' ? `group ${groupId}` : `group '${groupName}' (${groupId})`;
}

export class GroupRecords {
  readonly #store: StateStore;
  readonly #report: (problem: { file: string; message: string }) => void;
  /** Those decided, the oldest first. */
  #decided: string[] = [];

  constructor(options: {
    store: StateStore;
    report: (problem: { file: string; message: string }) => void;
  }) {
    this.#store = options.store;
    this.#report = options.report;
  }

  /** One that cannot be read is reported and left alone: its volumes are served all the same. */
  async load(): Promise<GroupRecord[]> {
    const records: GroupRecord[] = [];
    for (const name of await this.#store.list(FOLDER)) {
      if (name.startsWith('.') || !name.endsWith(SUFFIX)) continue;
      const file = `${FOLDER}/${name}`;
      try {
        const record = await this.#store.read(file, groupSchema);
        if (record !== undefined) records.push(record);
      } catch (error) {
        this.#report({ file, message: error instanceof Error ? error.message : String(error) });
      }
    }
    records.sort((a, b) => a.sinceMs - b.sinceMs);
    this.#decided = records.filter(isDecided).map(({ groupId }) => groupId);
    return records;
  }

  /** Durably. */
  async save(record: GroupRecord): Promise<void> {
    const { groupId } = record;
    await this.#store.write(fileName(groupId), record);
    if (isDecided(record) && !this.#decided.includes(groupId)) this.#decided.push(groupId);
  }

  /** Those decided longest ago, beyond as many as are remembered; returns which. */
  async forgetOld(): Promise<string[]> {
    const old = this.#decided.splice(0, Math.max(0, this.#decided.length - GROUPS_REMEMBERED_MAX));
    for (const groupId of old) await this.remove(groupId);
    return old;
  }

  /** Good to repeat. */
  remove(groupId: string): Promise<void> {
    return this.#store.remove(fileName(groupId));
  }
}

function fileName(groupId: string): string {
  return `${FOLDER}/${groupId}${SUFFIX}`;
}
