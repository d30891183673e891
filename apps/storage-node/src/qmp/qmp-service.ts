// The monitor of a storage node: operators' QMP scripts on the block graph and the jobs of the process that
// serves the guests. Volumes are its block nodes, and cannot be changed from here.
import type { BlockGraph, JobRegistry } from '@tidemark/engine';
import type { Volume } from '../volume/volume.ts';
import type { VolumeRegistry } from '../volume/volume-registry.ts';
import { qmpCommands } from './commands/index.ts';
import { MonitorServer } from './monitor-server.ts';
import { type Reserved, reserveCommands } from './reserved-commands.ts';
import { StorageDaemon } from './storage-daemon.ts';

export interface QmpServiceOptions {
  /** Path of the Unix socket. */
  readonly listen: string;
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly volumes: VolumeRegistry;
  /** Of this program. */
  readonly version: string;
}

export class QmpService {
  readonly #listen: string;
  readonly #daemon: StorageDaemon;
  readonly #server: MonitorServer;

  constructor({ listen, graph, jobs, volumes, version }: QmpServiceOptions) {
    this.#listen = listen;
    this.#daemon = new StorageDaemon({ version, graph, jobs });
    const commands = reserveCommands(qmpCommands, reservedBy(volumes, this.#daemon));
    this.#server = new MonitorServer({ daemon: this.#daemon, commands });
  }

  /** Rejects when the socket cannot be listened on. */
  async start(): Promise<void> {
    try {
      await this.#server.listen({ path: this.#listen });
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`Cannot listen on ${this.#listen} for QMP: ${text}`, { cause });
    }
    this.#server.serve();
  }

  /** Ends the jobs, exports and block nodes that clients have made, then lets the clients go. */
  async close(): Promise<void> {
    await this.#daemon.close();
    await this.#server.close();
  }
}

/** Everything that was not added over QMP belongs to the storage node. */
function reservedBy(volumes: VolumeRegistry, { graph, blockdevs }: StorageDaemon): Reserved {
  const volumeOf = (name: string): Volume | undefined => volumes.all().find(volume => volume.owns(name));
  return {
    blockNodeOwner(name) {
      const node = graph.find(name);
      if (node === undefined || blockdevs.has(node)) return undefined;
      const volume = volumeOf(name);
      return volume === undefined ? 'the storage node' : `volume '${volume.record.name}'`;
    },
    bitmapOwner(name, bitmap) {
      const checkpoint = volumeOf(name)?.chain.records.find(({ checkpointId }) => checkpointId === bitmap);
      return checkpoint === undefined ? undefined : `checkpoint '${checkpoint.name}'`;
    },
  };
}
