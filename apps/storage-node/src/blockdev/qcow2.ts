// The `qcow2` driver: its backing image is as the options say, or else as the header does.
import path from 'node:path';
import {
  type Edge,
  EngineError,
  formatPermissions,
  type GraphNode,
  hasQcow2Magic,
  Qcow2Image,
  readQcow2Header,
  type StoredBitmapInfo,
} from '@tidemark/engine';
import { z } from 'zod';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { defineDriver, type OpenContext } from './blockdev-driver.ts';
import { byteCount } from './option-types.ts';
import type { BlockdevOptions } from './options.ts';

const overlapTemplate = z.enum(['none', 'constant', 'cached', 'all']);
const options = z.object({
  'lazy-refcounts': z.boolean().optional(),
  'pass-discard-request': z.boolean().optional(),
  'pass-discard-snapshot': z.boolean().optional(),
  'pass-discard-other': z.boolean().optional(),
  'overlap-check': z
    .union([overlapTemplate, z.looseObject({ template: overlapTemplate.optional() })])
    .optional(),
  'cache-size': byteCount.optional(),
  'l2-cache-size': byteCount.optional(),
  'l2-cache-entry-size': byteCount.optional(),
  'refcount-cache-size': byteCount.optional(),
  'cache-clean-interval': byteCount.optional(),
});

type Options = z.output<typeof options> & { backing?: string | BlockdevOptions | null };

export const qcow2Driver = defineDriver({
  name: 'qcow2',
  options,
  children: {
    file: { role: 'file', required: true },
    backing: { role: 'backing', required: false, nullable: true, openedByDriver: true },
  },
  permissions: formatPermissions,
  async open(context: OpenContext<Options>) {
    const file = context.children.file!;
    if (!(await hasQcow2Magic(file))) {
      throw new EngineError('invalid-format', 'Image is not in qcow2 format', { node: context.nodeName });
    }
    const header = await readQcow2Header(file);
    const backing = await openBacking(context, header);
    return openImage({ ...context, file, backing });
  },
  async settle({ driver, node }) {
    await node.storeBitmaps();
    await (driver as Qcow2Image).settle();
  },
  async reopen({ blockdev: { node }, options, readOnly }) {
    const [file, backing] = ['file', 'backing'].map(role => node.children.find(edge => edge.role === role));
    const driver = await openImage({ options, readOnly, file: file!, backing, writableLater: true });
    return { driver, commit() {}, abort() {} };
  },
  backingName: ({ driver }) => (driver as Qcow2Image).header.backingPath,
  describeImage({ driver, node }, host) {
    const { header, storedBitmaps: stored } = driver as Qcow2Image;
    const { backingPath, backingFormat } = header;
    return {
      ...(backingPath !== undefined && {
        'backing-filename': backingPath,
        'full-backing-filename': resolveBacking(backingPath, fileOf(node, host)),
      }),
      ...(backingFormat !== undefined && { 'backing-filename-format': backingFormat }),
      'format-specific': {
        type: 'qcow2',
        data: {
          compat: header.version === 3 ? '1.1' : '0.10',
          'compression-type': header.compressionType,
          'lazy-refcounts': (header.compatibleFeatures & 1n) !== 0n,
          ...(stored.length > 0 && { bitmaps: stored.map(describeBitmap) }),
          'refcount-bits': 2 ** header.refcountOrder,
          corrupt: (header.incompatibleFeatures & 2n) !== 0n,
          'extended-l2': false,
        },
      },
    };
  },
});

/** As the image has it, which may be older than what the block node has. */
function describeBitmap({ name, granularityBytes, inUse, auto }: StoredBitmapInfo): object {
  const flags = [...(inUse ? ['in-use'] : []), ...(auto ? ['auto'] : [])];
  return { flags, name, granularity: granularityBytes };
}

interface OpenOptions {
  readonly options: Options;
  readonly readOnly: boolean;
  readonly file: Edge;
  readonly backing: Edge | undefined;
  /** The file below is reopened, too. */
  readonly writableLater?: boolean;
}

function openImage(about: OpenOptions): Promise<Qcow2Image> {
  const { options, readOnly, file, backing, writableLater = false } = about;
  const l2CacheBytes = options['l2-cache-size'];
  return Qcow2Image.open(file, {
    keepChildren: true,
    readOnly,
    writableLater,
    ...(backing === undefined ? { ignoreBacking: true } : { backing }),
    ...(l2CacheBytes === undefined ? {} : { l2CacheBytes }),
  });
}

interface BackingName {
  readonly backingPath: string | undefined;
  readonly backingFormat: string | undefined;
}

async function openBacking(
  { options: { backing }, children, openChild, host }: OpenContext<Options>,
  { backingPath, backingFormat }: BackingName,
): Promise<Edge | undefined> {
  // The empty name is how `null` was said before there was a `null`.
  if (backing === null || backing === '') return undefined;
  if (backing === undefined && backingPath === undefined) return undefined;
  try {
    if (backing !== undefined) return await openChild('backing', backing);
    const filename = resolveBacking(backingPath!, host.blockdevs.get(children.file!.node)?.options.filename);
    return await openChild('backing', namedBacking(filename, backingFormat));
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    const text = `Could not open backing file: ${error.message}`;
    throw new EngineError(error.kind, text, error.context, error);
  }
}

/** The format is never guessed: a guest may have written anything to a raw image. */
function namedBacking(filename: string, format: string | undefined): BlockdevOptions {
  if (format === undefined || format === 'raw' || format === 'qcow2') {
    return { driver: format ?? 'raw', file: { driver: 'file', filename } };
  }
  const hint = 'Only raw and qcow2 images are supported.';
  throw new EngineError('unsupported', `Unknown driver '${format}'`, { path: filename, hint });
}

/** The path of the file under an image. */
function fileOf(node: GraphNode, host: StorageDaemon): unknown {
  const file = node.children.find(edge => edge.role === 'file')!.node;
  return host.blockdevs.get(file)?.options.filename;
}

/** `json:…`, `nbd://…`: says where it is by itself. */
const PROTOCOL_PREFIX = /^[a-z][a-z0-9+.-]*:/i;

/** A relative name starts at the folder of the image that names it. */
function resolveBacking(backingPath: string, filename: unknown): string {
  if (PROTOCOL_PREFIX.test(backingPath)) return backingPath;
  if (typeof filename !== 'string' || path.isAbsolute(backingPath)) return backingPath;
  return path.join(path.dirname(filename), backingPath);
}
