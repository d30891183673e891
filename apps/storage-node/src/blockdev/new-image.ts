// Image files that commands make by the way: overlays of snapshots, targets of backups.
import {
  alignUp,
  createQcow2,
  createRawFile,
  EngineError,
  type GraphNode,
  SECTOR_BYTES,
} from '@tidemark/engine';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { filenameOf } from './filename.ts';
import { type StagedFile, stageFile } from './staged-file.ts';

export interface NewImageOptions {
  /** As the command has it. */
  readonly filename: string;
  readonly format: string;
  readonly sizeBytes: number;
  /** The image has this one as its backing image. */
  readonly backing?: GraphNode | undefined;
}

/** Makes the file. Rejects in QEMU's words with nothing changed. */
export async function makeImage(options: NewImageOptions, host: StorageDaemon): Promise<StagedFile> {
  const { filename, format, backing } = options;
  const sizeBytes = alignUp(options.sizeBytes, SECTOR_BYTES);
  if (format !== 'raw' && format !== 'qcow2') throw invalid(`Unknown file format '${format}'`);
  if (format === 'raw' && backing !== undefined) {
    throw invalid("Backing file not supported for file format 'raw'");
  }
  const image = backing && { path: filenameOf(backing, host), format: backing.driver as 'raw' };
  if (image?.path === filename) {
    throw invalid('Error: Trying to create an image with the same filename as the backing file');
  }
  return stageFile({
    path: localPath(filename),
    // Names that the graph makes up come once only.
    token: `tidemark-${process.pid}-${host.graph.freeName().slice(1)}`,
    make: path =>
      format === 'raw'
        ? createRawFile(path, sizeBytes)
        : createQcow2(path, { sizeBytes, ...(image && { backing: image }) }),
  });
}

/** A path, with or without the word `file:` before it. */
export function localPath(filename: string): string {
  const [, protocol, rest] = /^([A-Za-z0-9+.-]+):(.*)$/s.exec(filename) ?? [];
  if (protocol === undefined) return filename;
  if (protocol === 'file') return rest!;
  throw new EngineError('unsupported', `Unknown protocol '${protocol}'`, {
    hint: 'Give the path of a file.',
  });
}

function invalid(text: string): EngineError {
  const hint = 'Choose another format, or another file.';
  return new EngineError('invalid-argument', text, { hint });
}
