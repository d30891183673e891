// The way of a volume's guest to its disk: an export under the volume's name, with the changes since each checkpoint.
import { type Attachment, type GraphNode, PERMISSION, PERMISSIONS_ALL } from '@tidemark/engine';
import { TidemarkError } from '@tidemark/proto';
import type { ExtraContext } from '../exports/block-export.ts';
import type { CheckpointChain } from './checkpoint-chain.ts';
import { dirtyBitmapContext } from './dirty-bitmap-context.ts';
import type { VolumeHost } from './volume.ts';

export interface VolumeGuestOptions {
  readonly host: VolumeHost;
  readonly volumeId: string;
  readonly name: string;
  readonly node: GraphNode;
  readonly chain: CheckpointChain;
}

export class VolumeGuest {
  readonly #options: VolumeGuestOptions;
  #attachment: Attachment | undefined;

  constructor(options: VolumeGuestOptions) {
    this.#options = options;
  }

  /** Where it connects; empty while there is no export. */
  get uri(): string {
    return this.#attachment === undefined ? '' : this.#options.host.exports.uri(this.#options.name);
  }

  get connections(): number {
    return this.#attachment === undefined ? 0 : this.#options.host.exports.connections(this.#options.name);
  }

  /** Its use of the disk, while there is an export. */
  get edge(): Attachment['edge'] | undefined {
    return this.#attachment?.edge;
  }

  /** From here on it may come. */
  open(): void {
    const { host, name, node } = this.#options;
    this.#attachment = host.graph.attach(node.name, {
      user: `export '${name}'`,
      uses: PERMISSION.consistentRead | PERMISSION.write,
      shares: PERMISSIONS_ALL & ~PERMISSION.resize,
    });
    this.admit();
  }

  /** It cannot come until `admit`, for the sake of `who`. Rejects with `volume-busy` while it is there. */
  async withhold(who: string): Promise<void> {
    const { host, name } = this.#options;
    try {
      await host.exports.remove(name, { mode: 'safe' });
    } catch (error) {
      const text =
        `Volume '${name}' has ${this.connections} connected clients, and ${who} would change it under them. ` +
        "Disconnect them, or say that this may be ('evenIfConnected').";
      throw new TidemarkError('volume-busy', text, error);
    }
  }

  /** Good to repeat. */
  admit(): void {
    const { host, name, volumeId } = this.#options;
    if (this.#attachment === undefined || host.exports.has(name)) return;
    host.exports.add({
      name,
      description: `volume ${volumeId}`,
      listed: true,
      node: this.#attachment,
      extraContexts: () => this.#contexts(),
    });
  }

  /** Its connections are cut at once; resolves when nothing of it is under way. Good to repeat. */
  async close(): Promise<void> {
    const { host, name } = this.#options;
    const attachment = this.#attachment;
    if (attachment === undefined) return;
    await host.exports.remove(name, { mode: 'hard' });
    await attachment.close();
    this.#attachment = undefined;
  }

  /** One for each checkpoint whose changes are known. */
  #contexts(): ExtraContext[] {
    const { chain } = this.#options;
    return chain
      .trusted()
      .map(({ checkpointId }) => dirtyBitmapContext(checkpointId, () => chain.changedSince(checkpointId)));
  }
}
