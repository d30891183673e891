// The `qcow2` driver: its backing image is as the options say, or else as the header does.
import path from 'node:path';
import {
  type Edge,
  EngineError,
  formatPermissions,
  hasQcow2Magic,
  Qcow2Image,
  readQcow2Header,
} from '@tidemark/engine';
import { z } from 'zod';
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
  settle: ({ driver }) => (driver as Qcow2Image).settle(),
  async reopen({ blockdev: { node }, options, readOnly }) {
    const [file, backing] = ['file', 'backing'].map(role => node.children.find(edge => edge.role === role));
    const driver = await openImage({ options, readOnly, file: file!, backing });
    return { driver, commit() {}, abort() {} };
  },
  describeImage({ driver }) {
    const { header } = driver as Qcow2Image;
    return {
      'format-specific': {
        type: 'qcow2',
        data: {
          compat: header.version === 3 ? '1.1' : '0.10',
          'compression-type': header.compressionType,
          'lazy-refcounts': false,
          'refcount-bits': 2 ** header.refcountOrder,
          corrupt: false,
          'extended-l2': false,
        },
      },
    };
  },
});

interface OpenOptions {
  readonly options: Options;
  readonly readOnly: boolean;
  readonly file: Edge;
  readonly backing: Edge | undefined;
}

function openImage({ options, readOnly, file, backing }: OpenOptions): Promise<Qcow2Image> {
  const l2CacheBytes = options['l2-cache-size'];
  return Qcow2Image.open(file, {
    keepChildren: true,
    readOnly,
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
  if (backing === null) return undefined;
  if (backing !== undefined) return openChild('backing', backing);
  if (backingPath === undefined) return undefined;
  const filename = resolveBacking(backingPath, host.blockdevs.get(children.file!.node)?.options.filename);
  const file = { driver: 'file', filename };
  return openChild('backing', { driver: backingFormat ?? 'raw', file });
}

/** A relative name starts at the folder of the image that names it. */
function resolveBacking(backingPath: string, filename: unknown): string {
  if (typeof filename !== 'string' || path.isAbsolute(backingPath)) return backingPath;
  return path.join(path.dirname(filename), backingPath);
}
