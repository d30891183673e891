// The target of a backup that the command itself makes or opens, and that goes with the job.
import { EngineError, FileNode, type GraphNode, hasQcow2Magic } from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { blockdevDrivers } from './drivers.ts';
import { localPath, makeImage } from './new-image.ts';
import { openChildNode } from './open-block-node.ts';
import { decideCommon } from './options.ts';

export interface BackupTargetOptions {
  readonly filename: string;
  readonly format: string | undefined;
  /** False: the image is there. */
  readonly create: boolean;
  readonly source: GraphNode;
  /** What the target has below: nothing, what the source has, or the source itself. */
  readonly below: 'nothing' | 'backing' | 'source';
}

export interface BackupTarget {
  readonly node: GraphNode;
  /** Forgets what lay at the file's place before. */
  keep(): Promise<void>;
  /** As if it had never been. */
  takeBack(): Promise<void>;
}

/** Rejects in QEMU's words with nothing changed. */
export async function openBackupTarget(
  options: BackupTargetOptions,
  host: StorageDaemon,
): Promise<BackupTarget> {
  const { filename, source, below } = options;
  const backing = below === 'source' ? source : below === 'backing' ? backingOf(source) : undefined;
  const format = options.format ?? (options.create ? source.driver : await formatOf(localPath(filename)));
  const image = { filename, format, sizeBytes: source.sizeBytes, backing };
  const file = options.create ? await makeImage(image, host) : undefined;
  try {
    const node = await openTarget({ ...options, format }, host);
    return {
      node,
      keep: async () => file?.keep(),
      async takeBack() {
        await host.graph.release(node).catch(() => undefined);
        await file?.takeBack();
      },
    };
  } catch (error) {
    await file?.takeBack();
    throw error;
  }
}

function openTarget(
  { filename, format, source, below }: BackupTargetOptions & { format: string },
  host: StorageDaemon,
): Promise<GraphNode> {
  const definition = blockdevDrivers.get(format);
  if (definition === undefined) {
    throw new EngineError('unsupported', `Unknown driver '${format}'`, { hint: "Say 'raw' or 'qcow2'." });
  }
  const backing = below === 'source' ? source.name : below === 'nothing' ? null : undefined;
  const options = {
    driver: format,
    discard: 'unmap' as const,
    'detect-zeroes': 'unmap' as const,
    file: { driver: 'file', filename: localPath(filename) },
    ...(definition.children.backing && backing !== undefined && { backing }),
  };
  return openChildNode(options, host, { common: decideCommon({}), role: 'file', depth: 0 });
}

export function backingOf(node: GraphNode): GraphNode | undefined {
  return node.children.find(edge => edge.role === 'backing')?.node;
}

/** All of the target is about to be written: nobody can have put the format's mark there to mislead. */
async function formatOf(path: string): Promise<string> {
  const file = await FileNode.open(path, { readOnly: true, locking: 'off' }).catch(() => undefined);
  if (file === undefined) return 'raw';
  try {
    return (await hasQcow2Magic(file)) ? 'qcow2' : 'raw';
  } finally {
    await file.close();
  }
}
