// Commands about the NBD server and the exports.
import type { NbdListenOptions } from '@tidemark/nbd';
import { z } from 'zod';
import { alternate, uint32 } from '../arguments.ts';
import { defineCommand, type QmpCommand } from '../command.ts';
import { genericError } from '../qmp-error.ts';
import type { StorageDaemon } from '../storage-daemon.ts';

const removal = z.enum(['safe', 'hard']);

/** QAPI `SocketAddressLegacy`: what differs by type lies under `data`. */
const legacyAddress = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('inet'),
    data: z.strictObject({
      host: z.string(),
      port: z.string(),
      numeric: z.boolean().optional(),
      to: z.int().optional(),
      ipv4: z.boolean().optional(),
      ipv6: z.boolean().optional(),
      'keep-alive': z.boolean().optional(),
      mptcp: z.boolean().optional(),
    }),
  }),
  z.strictObject({
    type: z.literal('unix'),
    data: z.strictObject({
      path: z.string(),
      abstract: z.boolean().optional(),
      tight: z.boolean().optional(),
    }),
  }),
  z.strictObject({
    type: z.literal('vsock'),
    data: z.strictObject({ cid: z.string(), port: z.string() }),
  }),
  z.strictObject({ type: z.literal('fd'), data: z.strictObject({ str: z.string() }) }),
]);

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
  if (options.iothread !== undefined) throw genericError(`iothread "${options.iothread}" not found`);
  exports.add({
    id: options.id,
    nodeName: options['node-name'],
    exportName: options.name ?? options['node-name'],
    description: options.description,
    writable: options.writable ?? false,
    allocationDepth: options['allocation-depth'] ?? false,
    bitmaps: options.bitmaps ?? [],
  });
}

function listenOptions(address: z.output<typeof legacyAddress>): NbdListenOptions {
  switch (address.type) {
    case 'unix':
      return { path: address.data.path };
    case 'inet':
      return { host: address.data.host, port: Number(address.data.port) };
    case 'fd':
      throw genericError('only QEMU supports file descriptor passing');
    case 'vsock':
      throw genericError('vsock sockets are not supported');
  }
}

export const exportCommands: readonly QmpCommand[] = [
  defineCommand({
    name: 'nbd-server-start',
    arguments: z.strictObject({
      addr: legacyAddress,
      'tls-creds': z.string().optional(),
      'tls-authz': z.string().optional(),
      'max-connections': uint32.optional(),
    }),
    async run(args, { exports }) {
      const credentials = args['tls-creds'];
      if (credentials !== undefined) throw genericError(`No TLS credentials with id '${credentials}'`);
      const connectionsMax = args['max-connections'] ?? 0;
      await exports.startServer(listenOptions(args.addr), connectionsMax === 0 ? {} : { connectionsMax });
    },
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
      'allocation-depth': z.boolean().optional(),
    }),
    run(args, daemon) {
      const { device, bitmap } = args;
      const readOnly = daemon.graph.find(device)?.readOnly ?? false;
      daemon.exports.add({
        id: args.name ?? device,
        nodeName: device,
        exportName: args.name ?? device,
        description: args.description,
        writable: (args.writable ?? false) && !readOnly,
        allocationDepth: args['allocation-depth'] ?? false,
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
      const removed = exports.remove(id, mode ?? 'safe');
      // Dropped clients' requests may take their time: the event tells when the export has gone.
      if (mode !== 'hard' || !exports.has(id)) return removed;
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
