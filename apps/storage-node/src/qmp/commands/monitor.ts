// Commands about the monitor itself.
import { z } from 'zod';
import { defineCommand, type QmpCommand } from '../command.ts';
import { describeCommands } from '../introspection.ts';
import { qemuVersion } from '../version.ts';

/** All commands are known only where the table is made. */
export function monitorCommands(table: () => ReadonlyMap<string, QmpCommand>): QmpCommand[] {
  return [
    defineCommand({
      name: 'qmp_capabilities',
      arguments: z.strictObject({ enable: z.array(z.enum(['oob'])).optional() }),
      // What has been negotiated is the monitor's own business.
      run: () => ({}),
    }),
    defineCommand({
      name: 'query-version',
      arguments: z.strictObject({}),
      run: (_args, daemon) => qemuVersion(daemon.version),
    }),
    defineCommand({
      name: 'query-commands',
      arguments: z.strictObject({}),
      run: () => [...table().keys()].map(name => ({ name })),
    }),
    defineCommand({
      name: 'query-qmp-schema',
      arguments: z.strictObject({}),
      run: () => describeCommands(table().values()),
    }),
    defineCommand({
      name: 'quit',
      arguments: z.strictObject({}),
      // Answered when everything has ended, as in QEMU.
      async run(_args, daemon) {
        await daemon.close().finally(() => daemon.quit());
      },
    }),
  ];
}
