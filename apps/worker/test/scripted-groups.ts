// Groups as a scripted storage node plays them: nobody writes, and the fence holds unless a test says otherwise.
import { UndecidedGroup } from '@tidemark/proto';
import { createCheckpoint } from './scripted-checkpoints.ts';
import type { Handlers } from './scripted-handlers.ts';
import { refuse } from './scripted-refusal.ts';
import type { ScriptedStorageNode } from './scripted-storage-node.ts';

interface Member {
  volumeId: string;
  checkpointId: string;
  checkpointName: string;
  moment?: { momentId: string; baseCheckpointId: string; also: { offset: number; length: number }[] };
}

interface Kept {
  groupId: string;
  groupName: string;
  runId: string;
  members: Member[];
  state: 'prepared' | 'fenced' | 'committed' | 'released';
}

export class ScriptedGroups {
  /** Those that are not decided. */
  readonly groups = new Map<string, Kept>();
  /** Phase and hook of each call, in order. */
  readonly hooks: string[] = [];
  /** By hook: it fails in this phase. */
  readonly failingHooks = new Map<string, 'freeze' | 'thaw'>();
  /** While set, a release says that the fence was broken. */
  isBroken = false;
  /** Bases of the moments that were prepared; empty: full. */
  readonly bases = new Map<string, string>();
  readonly #node: ScriptedStorageNode;

  constructor(node: ScriptedStorageNode) {
    this.#node = node;
  }

  handlers(): Handlers {
    return {
      prepareGroup: ({ groupId, groupName, members, step }) => {
        for (const { volumeId } of members) this.#node.volume(volumeId);
        if (!this.groups.has(groupId)) {
          this.groups.set(groupId, { groupId, groupName, runId: step.runId, members, state: 'prepared' });
        }
        return { members: members.length };
      },
      fenceGroup: ({ groupId }) => {
        this.#group(groupId).state = 'fenced';
        return { fenceId: this.#fenceId(groupId), fencedAtMs: Date.now(), drainedInMs: 0.25 };
      },
      commitGroup: ({ groupId }) => this.#commit(this.#group(groupId)),
      releaseGroup: ({ groupId }) => {
        this.#group(groupId).state = 'released';
        const held = { held: !this.isBroken, reason: this.isBroken ? 'its limit was over' : '' };
        const waits = { heldMs: 4, waitP99Ms: 3, waitMaxMs: 3.5, waits: 2 };
        return { fenceId: this.#fenceId(groupId), ...held, ...waits };
      },
      decideGroup: ({ groupId, keep }) => this.#decide(groupId, keep),
      listGroups: () => ({
        groups: [...this.groups.values()].map(({ members, ...group }) =>
          UndecidedGroup.fromPartial({
            ...group,
            members: members.map(({ volumeId, checkpointId, moment }) => ({
              ...{ volumeId, checkpointId, momentId: moment?.momentId ?? '' },
            })),
            inDoubt: group.state === 'committed' || group.state === 'released',
          }),
        ),
      }),
      runHook: ({ hook, phase }) => {
        this.hooks.push(`${phase} ${hook}`);
        if (this.failingHooks.get(hook) === phase) throw refuse('hook-failed', `${hook} ended with 1`);
        return { output: '', tookMs: 1 };
      },
    };
  }

  #fenceId(groupId: string): string {
    return `fence-${this.#node.name}-${groupId}`;
  }

  #group(groupId: string): Kept {
    const group = this.groups.get(groupId);
    if (!group) throw refuse('group-not-found', groupId);
    return group;
  }

  #commit(group: Kept): unknown {
    const node = this.#node;
    group.state = 'committed';
    const members = group.members.map(({ volumeId, checkpointId, checkpointName: name, moment }) => {
      const { createdAtMs } = createCheckpoint(node, { volumeId, checkpointId, name });
      const { sizeBytes } = node.volume(volumeId);
      const dirtyBytes = moment?.baseCheckpointId ? sizeBytes / 4 : sizeBytes;
      if (moment) {
        this.bases.set(checkpointId, moment.baseCheckpointId);
        node.scriptedJobs.freezeForGroup({ volumeId, checkpointId, dirtyBytes, pointInTimeMs: createdAtMs });
      }
      return { volumeId, checkpointId, pointInTimeMs: createdAtMs, dirtyBytes, grownBytes: 0 };
    });
    return { members, fenceId: this.#fenceId(group.groupId), tookMs: 1 };
  }

  /** Of a group that is decided, or was never heard of, nothing is left to do. */
  #decide(groupId: string, keep: boolean): unknown {
    const group = this.groups.get(groupId);
    this.groups.delete(groupId);
    if (group === undefined || keep) return {};
    for (const { checkpointId } of group.members) {
      this.#node.scriptedJobs.moments.delete(checkpointId);
      this.#node.checkpoints.delete(checkpointId);
    }
    return {};
  }
}
