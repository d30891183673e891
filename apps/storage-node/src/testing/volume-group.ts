// A group of volumes as its coordinator sees it: each call goes to all of its storage nodes at once.
import { randomUUID } from 'node:crypto';
import type { GroupReleased, PrepareGroupRequest, StepContext, Volume } from '@tidemark/proto';
import type { ReachedStorageNode } from './running-storage-node.ts';

export interface GroupPart<Node extends ReachedStorageNode = ReachedStorageNode> {
  readonly node: Node;
  readonly volume: Pick<Volume, 'volumeId'>;
  /** Of the group; made where it is not given. */
  readonly checkpointId?: string;
  /** Its backup's base; empty: a full one. Undefined: a checkpoint alone. */
  readonly baseCheckpointId?: string;
}

export class VolumeGroup<Node extends ReachedStorageNode = ReachedStorageNode> {
  readonly groupId = randomUUID();
  readonly runId = randomUUID();
  leaseEpoch = 1;
  readonly parts: readonly (GroupPart<Node> & { readonly checkpointId: string })[];
  readonly #fenceLimitMs: number;

  /** The limit is far above what the slowest machine needs, where a test does not want it to be broken. */
  constructor(parts: readonly GroupPart<Node>[], { fenceLimitMs = 10_000 } = {}) {
    this.parts = parts.map(part => ({ checkpointId: randomUUID(), ...part }));
    this.#fenceLimitMs = fenceLimitMs;
  }

  get nodes(): Node[] {
    return [...new Set(this.parts.map(({ node }) => node))];
  }

  step(step: string): StepContext {
    return { runId: this.runId, step, leaseEpoch: this.leaseEpoch };
  }

  request(node: Node): PrepareGroupRequest {
    const parts = this.parts.filter(part => part.node === node);
    return {
      step: this.step('prepare'),
      groupId: this.groupId,
      groupName: 'nightly',
      fenceLimitMs: this.#fenceLimitMs,
      members: parts.map(({ volume, checkpointId, baseCheckpointId }) => ({
        volumeId: volume.volumeId,
        checkpointId,
        checkpointName: `at ${checkpointId}`,
        checkpointDescription: '',
        moment:
          baseCheckpointId === undefined
            ? undefined
            : {
                momentId: checkpointId,
                baseCheckpointId,
                onCbwError: '',
                cbwTimeoutMs: 0,
                scratchLimitBytes: 0,
                also: [],
              },
      })),
    };
  }

  prepare() {
    return this.#all(node => node.clients.groups.prepareGroup(this.request(node)));
  }

  fence() {
    return this.#all(node => node.clients.groups.fenceGroup(this.#call('fence')));
  }

  commit() {
    return this.#all(node => node.clients.groups.commitGroup(this.#call('commit')));
  }

  /** One storage node after the other. */
  async commitInTurn(between: () => Promise<void>): Promise<void> {
    for (const node of this.nodes) {
      await node.clients.groups.commitGroup(this.#call('commit'));
      await between();
    }
  }

  release(): Promise<GroupReleased[]> {
    return this.#all(node => node.clients.groups.releaseGroup(this.#call('release')));
  }

  decide(keep: boolean) {
    const step = this.step(keep ? 'keep' : 'undo');
    return this.#all(node => node.clients.groups.decideGroup({ step, groupId: this.groupId, keep }));
  }

  /** All steps. True where it held everywhere and was kept; else it was undone. */
  async take(commit: () => Promise<unknown> = () => this.commit()): Promise<boolean> {
    let held = false;
    try {
      await this.prepare();
      await this.fence();
      await commit();
      held = (await this.release()).every(answer => answer.held);
    } finally {
      await this.decide(held);
    }
    return held;
  }

  #call(step: string) {
    return { step: this.step(step), groupId: this.groupId };
  }

  #all<T>(call: (node: Node) => Promise<T>): Promise<T[]> {
    return Promise.all(this.nodes.map(call));
  }
}
