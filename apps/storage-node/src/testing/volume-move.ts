// One move of a volume between two storage nodes, step by step over gRPC, as its run would call them.
import { randomUUID } from 'node:crypto';
import type { ArrivingCheckpoint, Volume } from '@tidemark/proto';
import { granulesOf } from './checkpoint-model.ts';
import { createVolume } from './live-volume.ts';
import { newStep, RunningStorageNode } from './running-storage-node.ts';

async function untilReady(node: RunningStorageNode, jobId: string): Promise<void> {
  for await (const { state } of node.clients.watchJob({ jobId })) if (state === 'ready') return;
  throw new Error(`${jobId} never became ready`);
}

export class VolumeMove {
  readonly source: RunningStorageNode;
  readonly target: RunningStorageNode;
  readonly volume: Volume;
  readonly runId: string;
  imageUri = '';
  bitmapsUri = '';
  jobId = '';

  constructor(
    source: RunningStorageNode,
    target: RunningStorageNode,
    volume: Volume,
    runId: string = randomUUID(),
  ) {
    this.runId = runId;
    this.source = source;
    this.target = target;
    this.volume = volume;
  }

  static async make(options: Partial<Volume> = {}): Promise<VolumeMove> {
    const source = await RunningStorageNode.start();
    const target = await RunningStorageNode.start();
    return new VolumeMove(source, target, await createVolume(source, { ...options }));
  }

  get volumeId(): string {
    return this.volume.volumeId;
  }

  step(name: string) {
    return newStep({ runId: this.runId, step: name });
  }

  async prepare(): Promise<void> {
    const { volumeId, name, sizeBytes, format } = this.volume;
    const wanted = { step: this.step('prepare'), volumeId, name, sizeBytes, format, allocatedBytes: 1 };
    const { imageUri, bitmapsUri } = await this.target.clients.volumes.prepareArrival(wanted);
    Object.assign(this, { imageUri, bitmapsUri });
  }

  async start(): Promise<void> {
    const { volumeId, imageUri } = this;
    const started = this.source.clients.volumes.startMove({ step: this.step('start'), volumeId, imageUri });
    this.jobId = (await started).jobId;
    await untilReady(this.source, this.jobId);
  }

  seal() {
    const { volumeId, bitmapsUri } = this;
    return this.source.clients.volumes.sealVolume({ step: this.step('seal'), volumeId, bitmapsUri });
  }

  unseal() {
    const { volumeId } = this;
    return this.source.clients.volumes.unsealVolume({
      step: this.step('unseal'),
      volumeId,
      sealedBy: this.runId,
    });
  }

  accept(sealed: { createdAtMs: number; checkpoints: ArrivingCheckpoint[] }) {
    const { volumeId, imageUri } = this;
    const step = this.step('accept');
    return this.target.clients.volumes.acceptArrival({ step, volumeId, imageUri, ...sealed });
  }

  open() {
    return this.target.clients.volumes.openArrival({ step: this.step('open'), volumeId: this.volumeId });
  }

  discard() {
    const { volumeId } = this;
    return this.target.clients.volumes.discardArrival({ step: this.step('discard'), volumeId });
  }

  leave(node: RunningStorageNode) {
    return node.clients.volumes.deleteVolume({ step: newStep(), volumeId: this.volumeId });
  }

  async whole(): Promise<Volume> {
    await this.prepare();
    await this.start();
    await this.accept(await this.seal());
    const moved = await this.open();
    await this.leave(this.source);
    return moved;
  }

  async addCheckpoint(node: RunningStorageNode, name: string, volumeId = this.volumeId): Promise<string> {
    const checkpointId = randomUUID();
    const wanted = { step: newStep(), volumeId, checkpointId, name, description: `of ${name}` };
    await node.clients.checkpoints.createCheckpoint(wanted);
    return checkpointId;
  }

  async changed(node: RunningStorageNode, sinceCheckpointId: string): Promise<number[]> {
    const parts = [];
    const { volumeId } = this;
    for await (const part of node.clients.listChangedBlocks({ volumeId, sinceCheckpointId }))
      parts.push(part);
    return granulesOf(parts, this.volume.sizeBytes);
  }
}

/** `NAME STATE` of each of its volumes. */
export const volumeStates = async (node: RunningStorageNode) =>
  (await node.clients.volumes.listVolumes({})).volumes.map(({ name, state }) => `${name} ${state}`);
