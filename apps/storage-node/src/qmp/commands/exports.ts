// Commands about the NBD server and the exports.
import { z } from 'zod';
import { alternate, uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';
import {
  fromLegacyAddress,
  legacySocketAddress,
  type SocketAddress,
  socketAddress,
} from '../socket-address.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

const removal = z.enum(['safe', 'hard']);

const bitmapReference = alternate('BlockDirtyBitmapOrStr', [
  z.string(),
  z.strictObject({ node: z.string(), name: z.string() }),
]);

const exportOptions = {
  name: z.string().optional(),
  description: z.string().optional(),
  bitmaps: z.array(bitmapReference).optional(),
  'allocation-depth': z.boolean().optional(),
};

/** QAPI `BlockExportOptions`, also the command line's `--export`. */
export const blockExportOptions = z.strictObject({
  type: z.enum(['nbd']),
  id: z.string(),
  'fixed-iothread': z.boolean().optional(),
  iothread: z.string().optional(),
  'node-name': z.string(),
  writable: z.boolean().optional(),
  writethrough: z.boolean().optional(),
  ...exportOptions,
});

export function addExport(options: z.output<typeof blockExportOptions>, { exports }: StorageDaemon): void {
  exports.add({
    id: options.id,
    nodeName: options['node-name'],
    iothread: options.iothread,
    exportName: options.name ?? options['node-name'],
    description: options.description,
    writable: options.writable ?? false,
    writeThrough: options.writethrough ?? false,
    allocationDepth: options['allocation-depth'] ?? false,
    bitmaps: options.bitmaps ?? [],
  });
}

const serverOptions = {
  'tls-creds': z.string().optional(),
  'tls-authz': z.string().optional(),
  'max-connections': uint32.optional(),
};

/** QAPI `NbdServerOptions`, the command line's `--nbd-server`. */
export const nbdServerOptions = z.strictObject({ addr: socketAddress, ...serverOptions });

interface NbdServerStart {
  readonly addr: SocketAddress;
  readonly 'tls-creds'?: string | undefined;
  readonly 'max-connections'?: number | undefined;
}

/** Rejects with nothing listening. */
export async function startNbdServer(options: NbdServerStart, { exports }: StorageDaemon): Promise<void> {
  exports.assertNoServer();
  const credentials = options['tls-creds'];
  if (credentials !== undefined) throw genericError(`No TLS credentials with id '${credentials}'`);
  // Zero is QEMU's word for no bound.
  await exports.startServer(options.addr, { connectionsMax: options['max-connections'] || undefined });
}

export const exportCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'nbd-server-start',
    arguments: z.strictObject({ addr: legacySocketAddress, ...serverOptions }),
    run: ({ addr, ...options }, daemon) =>
      startNbdServer({ addr: fromLegacyAddress(addr), ...options }, daemon),
  }),
  defineCommand({
    name: 'nbd-server-stop',
    arguments: z.strictObject({}),
    run: (_args, { exports }) => exports.stopServer(),
  }),
  defineCommand({
    name: 'nbd-server-add',
    arguments: z.strictObject({
      device: z.string(),
      writable: z.boolean().optional(),
      bitmap: z.string().optional(),
      name: z.string().optional(),
      description: z.string().optional(),
    }),
    run(args, daemon) {
      const { device, bitmap } = args;
      const node = daemon.graph.find(device);
      if (node === undefined) throw genericError(`Cannot find device='${device}' nor node-name='${device}'`);
      daemon.exports.add({
        id: args.name ?? device,
        nodeName: device,
        exportName: args.name ?? device,
        description: args.description,
        writable: (args.writable ?? false) && !node.readOnly,
        allocationDepth: false,
        bitmaps: bitmap === undefined ? [] : [bitmap],
      });
    },
  }),
  defineCommand({
    name: 'nbd-server-remove',
    arguments: z.strictObject({ name: z.string(), mode: removal.optional() }),
    run: ({ name, mode }, { exports }) => exports.remove(name, mode ?? 'safe'),
  }),
  defineCommand({
    name: 'block-export-add',
    arguments: blockExportOptions,
    run: (args, daemon) => addExport(args, daemon),
  }),
  defineCommand({
    name: 'block-export-del',
    arguments: z.strictObject({ id: z.string(), mode: removal.optional() }),
    run({ id, mode }, { exports }) {
      const hasClients = exports.hasClients(id);
      const removed = exports.remove(id, mode ?? 'safe');
      // Dropped clients' requests may take their time: the event tells when the export has gone.
      if (mode !== 'hard' || !hasClients) return removed;
      removed.catch(() => undefined);
      return undefined;
    },
  }),
  defineCommand({
    name: 'query-block-exports',
    arguments: z.strictObject({}),
    run: (_args, { exports }) =>
      exports.list().map(({ id, nodeName, shuttingDown }) => ({
        'node-name': nodeName,
        'shutting-down': shuttingDown,
        type: 'nbd',
        id,
      })),
  }),
];
