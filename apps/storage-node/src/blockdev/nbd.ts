// The `nbd` driver: a disk on another server.
import { EngineError } from '@tidemark/engine';
import { formatNbdUri } from '@tidemark/nbd';
import { z } from 'zod';
import { NbdDriver } from '../exports/nbd-driver.ts';
import { ReconnectingNode } from '../exports/reconnecting-node.ts';
import { uint32 } from '../qmp/arguments.ts';
import { defineDriver } from './blockdev-driver.ts';

/** QAPI `SocketAddress`, the kinds that are offered here. */
const server = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('inet'), host: z.string(), port: z.string() }),
  z.strictObject({ type: z.literal('unix'), path: z.string() }),
]);

const options = z.object({
  server,
  export: z.string().optional(),
  'tls-creds': z.string().optional(),
  'tls-hostname': z.string().optional(),
  'x-dirty-bitmap': z.string().optional(),
  'reconnect-delay': uint32.optional(),
  'open-timeout': uint32.optional(),
});
type Options = z.output<typeof options>;

const MILLISECONDS = 1000;
/** Opening does not wait for a server for ever where nobody said how long. */
const OPEN_TIMEOUT_MS = 30_000;

export const nbdDriver = defineDriver({
  name: 'nbd',
  options,
  children: {},
  permissions: () => ({ uses: 0, shares: 0 }),
  filename: given => uriOf(given as Options),
  async open({ options: given, readOnly, host }) {
    if (given['tls-creds'] !== undefined) {
      throw new EngineError('unsupported', `No TLS credentials with id '${given['tls-creds']}'`, {
        hint: 'TLS is not offered: use a network that is trusted.',
      });
    }
    const uri = uriOf(given);
    const openTimeoutMs = (given['open-timeout'] ?? 0) * MILLISECONDS || OPEN_TIMEOUT_MS;
    const node = {
      connect: (signal: AbortSignal) => NbdDriver.open(uri, { readOnly, signal }),
      reconnectDelayMs: (given['reconnect-delay'] ?? 0) * MILLISECONDS,
      clock: host.clock,
    };
    return ReconnectingNode.open(node, AbortSignal.timeout(openTimeoutMs));
  },
});

function uriOf({ server: where, export: exportName = '' }: Options): string {
  if (where.type === 'unix') return formatNbdUri({ path: where.path, exportName });
  return formatNbdUri({ host: where.host, port: Number(where.port), exportName });
}
