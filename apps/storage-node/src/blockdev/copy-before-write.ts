// The `copy-before-write` driver: a filter that keeps the moment of its opening on its target.
import {
  BlockCopy,
  CopyBeforeWrite,
  copyBeforeWritePermissions,
  copyClusterBytes,
  type DirtyBitmap,
  EngineError,
  ON_CBW_ERROR,
  validateMinClusterBytes,
} from '@tidemark/engine';
import { z } from 'zod';
import { uint32 } from '../qmp/arguments.ts';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import { defineDriver } from './blockdev-driver.ts';

const options = z.object({
  bitmap: z.strictObject({ node: z.string(), name: z.string() }).optional(),
  'on-cbw-error': z.enum(ON_CBW_ERROR).optional(),
  'cbw-timeout': uint32.optional(),
  /** Ours: copy in units of at least this many bytes. */
  'min-cluster-size': uint32.optional(),
  /** Ours: what guests read is copied on the way. */
  'x-tidemark-feed-from-reads': z.boolean().optional(),
});

const MILLISECONDS = 1000;

export const copyBeforeWriteDriver = defineDriver({
  name: 'copy-before-write',
  options,
  children: { file: { role: 'file', required: true }, target: { role: 'target', required: true } },
  filename: (_options, file) => (file?.startsWith('json:') ? undefined : file),
  permissions: copyBeforeWritePermissions,
  async open({ options: given, children, host, nodeName }) {
    const [source, target] = [children.file!, children.target!];
    const bitmap = given.bitmap === undefined ? undefined : findBitmap(host, given.bitmap);
    bitmap?.assertUsable();
    if (target.readOnly) throw new EngineError('denied', 'Block node is read-only', { node: nodeName });
    validateMinClusterBytes(given['min-cluster-size']);
    const clusterBytes = copyClusterBytes(target, { minClusterBytes: given['min-cluster-size'] });
    const copy = new BlockCopy({ source, target, targetIsZero: false, clusterBytes });
    if (bitmap === undefined) copy.copyBitmap.setAll();
    else copy.copyBitmap.merge(bitmap.bits);
    const driver = new CopyBeforeWrite({
      source,
      target,
      copy,
      access: copy.copyBitmap.clone(),
      onCbwError: given['on-cbw-error'] ?? 'break-guest-write',
      cbwTimeoutMs: (given['cbw-timeout'] ?? 0) * MILLISECONDS,
      feedFromReads: given['x-tidemark-feed-from-reads'] ?? false,
      clock: host.clock,
    });
    driver.onBroken = () => host.emitSnapshotBroken(nodeName, driver.broken!);
    return driver;
  },
});

function findBitmap(host: StorageDaemon, reference: { node: string; name: string }): DirtyBitmap {
  const node = host.graph.find(reference.node);
  if (node !== undefined) return node.bitmaps.get(reference.name);
  throw new EngineError('not-found', `Node '${reference.node}' not found`, { hint: 'List the block nodes.' });
}
