// A storage node as far as the api asks one: it says what its checkpoints have, and lists changes as it is told to.
import {
  Server,
  ServerCredentials,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import {
  type ChangedBlocks,
  type ChangedBlocksRequest,
  Checkpoint,
  CheckpointServiceService,
  type ErrorCode,
  TidemarkError,
  toServiceError,
} from '@tidemark/proto';

type Reply = (error: unknown, answer?: unknown) => void;

export class LiveStorageNode {
  /** By id. */
  readonly facts = new Map<string, Partial<Checkpoint>>();
  parts: ChangedBlocks[] = [];
  /** Asked for so far. */
  readonly requests: ChangedBlocksRequest[] = [];
  taken = 0;
  gone = false;
  /** Never answers. */
  hangs = false;
  refusal: ErrorCode | undefined;
  readonly #server = new Server();
  #port = 0;

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  static async start(): Promise<LiveStorageNode> {
    const node = new LiveStorageNode();
    const { listCheckpoints, countChangedBytes, listChangedBlocks } = CheckpointServiceService;
    const definition = {
      listCheckpoints,
      countChangedBytes,
      listChangedBlocks,
    } as unknown as ServiceDefinition;
    const implementation = {
      listCheckpoints: (_call: unknown, reply: Reply) => node.#answer(reply, () => node.#listed()),
      countChangedBytes: (call: { request: ChangedBlocksRequest }, reply: Reply) =>
        node.#answer(reply, () => {
          node.requests.push(call.request);
          return { changedBytes: 131_072, granularityBytes: 65_536 };
        }),
      listChangedBlocks: (call: ServerWritableStream<ChangedBlocksRequest, ChangedBlocks>) =>
        node.#send(call),
    };
    node.#server.addService(definition, implementation as unknown as UntypedServiceImplementation);
    node.#port = await new Promise((resolve, reject) =>
      node.#server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
        error ? reject(error) : resolve(port),
      ),
    );
    return node;
  }

  stop(): void {
    this.#server.forceShutdown();
  }

  #listed() {
    const checkpoints = [...this.facts].map(([checkpointId, facts]) =>
      Checkpoint.fromPartial({ checkpointId, ...facts }),
    );
    return { checkpoints };
  }

  #refuse(): unknown {
    return toServiceError(new TidemarkError(this.refusal!, `Scripted: ${this.refusal}.`));
  }

  #answer(reply: Reply, answer: () => unknown): void {
    if (this.hangs) return;
    if (this.refusal === undefined) reply(null, answer());
    else reply(this.#refuse());
  }

  async #send(call: ServerWritableStream<ChangedBlocksRequest, ChangedBlocks>): Promise<void> {
    this.requests.push(call.request);
    call.once('cancelled', () => {
      this.gone = true;
    });
    if (this.hangs) return;
    if (this.refusal !== undefined) {
      call.emit('error', this.#refuse());
      return;
    }
    const cancelled = new Promise<void>(resolve => call.once('cancelled', () => resolve()));
    for (const part of this.parts) {
      if (part.nextOffset <= call.request.offset) continue;
      if (call.cancelled) return;
      this.taken += 1;
      await Promise.race([cancelled, new Promise<void>(resolve => call.write(part, () => resolve()))]);
    }
    call.end();
  }
}
