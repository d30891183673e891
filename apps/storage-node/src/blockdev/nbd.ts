// The `nbd` driver: a disk on another server.
import { type Clock, EngineError } from '@tidemark/engine';
import { formatNbdUri } from '@tidemark/nbd';
import { z } from 'zod';
import { NbdDriver } from '../exports/nbd-driver.ts';
import { ReconnectingNode } from '../exports/reconnecting-node.ts';
import { NBD_CONNECT_TIMEOUT_MS, RECONNECT_PAUSE_MS_MIN } from '../limits.ts';
import { uint32 } from '../qmp/arguments.ts';
import { type SocketAddress, socketAddress } from '../qmp/socket-address.ts';
import { systemErrorText } from '../qmp/system-error-text.ts';
import { defineDriver, type PreparedReopen } from './blockdev-driver.ts';

const options = z.object({
  server: socketAddress,
  export: z.string().optional(),
  'tls-creds': z.string().optional(),
  'tls-hostname': z.string().optional(),
  'x-dirty-bitmap': z.string().optional(),
  'reconnect-delay': uint32.optional(),
  'open-timeout': uint32.optional(),
});
type Options = z.output<typeof options>;

/** Of an export's name (section "Conventions" of the protocol). */
const NAME_BYTES_MAX = 4096;
const MILLISECONDS = 1000;
/** As in QEMU a server may think for as long as it likes. */
const PATIENT = { stallTimeoutMs: 0 };
/** A node without these goes on with what is the default: asking for that later is another wish. */
const FOR_LIFE = ['reconnect-delay', 'open-timeout'] as const;

export const nbdDriver = defineDriver({
  name: 'nbd',
  options,
  children: {},
  permissions: () => ({ uses: 0, shares: 0 }),
  protocol: true,
  filename: given => uriOf(given as Options),
  async open({ options: given, readOnly, common, host: { clock } }) {
    assertOffered(given);
    const uri = uriOf(given);
    const wanted = common.autoReadOnly && !readOnly ? 'if-needed' : readOnly;
    const first = await connectFirst(given, { uri, readOnly: wanted, clock });
    return ReconnectingNode.of(first, {
      connect: signal => NbdDriver.open(uri, { readOnly: 'if-needed', signal, ...PATIENT }),
      reconnectDelayMs: (given['reconnect-delay'] ?? 0) * MILLISECONDS,
      clock,
    });
  },
  fixedOptions: ['server', 'export', 'tls-creds', 'tls-hostname', 'x-dirty-bitmap', ...FOR_LIFE],
  reopen: ({ blockdev, options: next, readOnly }) =>
    prepareReopen(blockdev.driver as ReconnectingNode, { before: blockdev.options, next, readOnly }),
});

function assertOffered(given: Options): void {
  const { server, export: name = '' } = given;
  const refuse = (text: string, hint: string) => new EngineError('unsupported', text, { hint });
  if (given['tls-creds'] !== undefined) {
    const hint = 'TLS is not offered: use a network that is trusted.';
    throw refuse(`No TLS credentials with id '${given['tls-creds']}'`, hint);
  }
  if (given['x-dirty-bitmap'] !== undefined) {
    const hint = 'Reading a bitmap as allocation is not offered: leave x-dirty-bitmap out.';
    throw refuse('Could not open image: Invalid argument', hint);
  }
  if (Buffer.byteLength(name) > NAME_BYTES_MAX) {
    throw refuse('export name too long to send to server', `Names have up to ${NAME_BYTES_MAX} bytes.`);
  }
  if (server.type === 'fd') {
    throw refuse('only QEMU supports file descriptor passing', 'Give an inet or unix address.');
  }
  if (server.type === 'vsock') throw refuse('vsock sockets are not supported', 'Use inet or unix.');
  if (server.type === 'inet' && !(/^[0-9]+$/.test(server.port) && Number(server.port) <= 0xffff)) {
    const why = 'Servname not supported for ai_socktype';
    throw refuse(`address resolution failed for ${server.host}:${server.port}: ${why}`, 'Give a number.');
  }
}

/** Tries again for `open-timeout`. Rejects in QEMU's words. */
async function connectFirst(
  given: Options,
  { uri, readOnly, clock }: { uri: string; readOnly: boolean | 'if-needed'; clock: Clock },
): Promise<NbdDriver> {
  const deadlineMs = clock.monotonicMs() + (given['open-timeout'] ?? 0) * MILLISECONDS;
  for (;;) {
    try {
      const signal = AbortSignal.timeout(NBD_CONNECT_TIMEOUT_MS);
      return await NbdDriver.open(uri, { readOnly, signal, ...PATIENT });
    } catch (error) {
      const isAway = error instanceof EngineError && error.kind === 'io';
      if (!isAway || clock.monotonicMs() >= deadlineMs) throw openError(given, error);
      await clock.sleep(RECONNECT_PAUSE_MS_MIN);
    }
  }
}

function openError({ server }: Options, error: unknown): unknown {
  if (!(error instanceof EngineError)) return error;
  const again = (text: string, hint: string) =>
    new EngineError(error.kind, text, { ...error.context, hint }, error);
  if (error.kind === 'not-found') {
    return again('Requested export not available', 'Look at the names that the server lists.');
  }
  if (error.kind === 'invalid-argument') {
    return again(
      'Could not open image: Permission denied',
      "The export is read-only: add 'read-only': true.",
    );
  }
  const { errno } = error.context;
  const hint = 'Look whether the server runs and listens there.';
  const place =
    server.type === 'unix' ? server.path : server.type === 'inet' && `${server.host}:${server.port}`;
  if (errno === 'ENOTFOUND' || errno === 'EAI_AGAIN') {
    return again(`address resolution failed for ${place}: Name or service not known`, hint);
  }
  // What is no error of the system is told by whoever read the server's words.
  if (errno === undefined || errno === 'EIO') return error;
  return again(`Failed to connect to '${place}': ${systemErrorText(error)}`, hint);
}

function prepareReopen(
  node: ReconnectingNode,
  { before, next, readOnly }: { before: Options; next: Options; readOnly: boolean },
): PreparedReopen {
  const gone = FOR_LIFE.find(key => before[key] !== undefined && next[key] === undefined);
  if (gone !== undefined) {
    const text = `Option '${gone}' cannot be reset to its default value`;
    throw new EngineError('invalid-argument', text, { hint: 'Give it as it was.' });
  }
  if (!readOnly && !node.serverTakesWrites) {
    const hint = 'The server exports it read-only.';
    throw new EngineError('denied', 'Could not open image: Permission denied', { hint });
  }
  return { commit: () => node.setReadOnly(readOnly), abort() {} };
}

function uriOf({ server, export: exportName = '' }: Options): string {
  if (server.type === 'unix') return formatNbdUri({ path: server.path, exportName });
  const { host, port } = server as Extract<SocketAddress, { type: 'inet' }>;
  return formatNbdUri({ host, port: Number(port), exportName });
}
