// The settings of a storage node, read once from the environment. All faults are reported together.
import { resolve } from 'node:path';
import {
  addressSetting,
  FLEET_SECRET,
  fileSetting,
  fleetTlsSettings,
  isLoopback,
  killPointsSetting,
  type Labels,
  labelsFault,
  logLevelSetting,
  openFleetTls,
  readCa,
  readSettings,
  secretSetting,
  type TlsFiles,
} from '@tidemark/proto';
import { z } from 'zod';
import type { JoinAddress } from './host/fleet-membership.ts';
import { type HostPort, isWildcard } from './host-port.ts';
import { TARGET_RECONNECT_MS, TARGET_RECONNECT_MS_MAX } from './limits.ts';

const address = addressSetting('127.0.0.1:7411');

/** What the address of a Unix socket has room for. */
const UNIX_PATH_BYTES_MAX = 107;

const bytesSetting = z.coerce
  .number('must be a number of bytes')
  .int('must be a whole number of bytes')
  .min(0, 'must not be negative')
  .max(Number.MAX_SAFE_INTEGER, 'is too large');

const JOIN_TOKEN = 'TIDEMARK_JOIN_TOKEN';

const joinUrlSetting = z
  .string()
  .refine(
    text => /^https?:\/\//.test(text) && URL.canParse(text),
    'must be the address of the API, such as http://127.0.0.1:7400',
  )
  .optional();

/** `key=value`, separated by commas. */
const labelsSetting = z
  .string()
  .default('')
  .transform((text, context): Labels => {
    const pairs = text
      .split(',')
      .map(pair => pair.trim())
      .filter(pair => pair !== '');
    const labels = Object.fromEntries(pairs.map(pair => pair.split(/=(.*)/s, 2) as [string, string]));
    const fault = pairs.every(pair => pair.includes('='))
      ? labelsFault(labels)
      : 'must be key=value, separated by commas';
    if (fault === null) return Object.freeze(labels);
    context.addIssue({ code: 'custom', message: fault });
    return z.NEVER;
  });

const environment = z
  .object({
    TIDEMARK_NODE_NAME: z
      .string({ error: 'is not set; give the storage node a name, such as alpha' })
      .regex(
        /^[a-z0-9][a-z0-9._-]{0,62}$/,
        'must be 1 to 63 small letters, digits, dots, dashes or underscores',
      ),
    TIDEMARK_STATE_DIR: z
      .string({ error: 'is not set; name the folder that holds volumes and repositories' })
      .min(1, 'must not be empty'),
    TIDEMARK_CONTROL_LISTEN: address.prefault('127.0.0.1:7411'),
    TIDEMARK_FLEET_SECRET: secretSetting,
    ...fleetTlsSettings,
    TIDEMARK_CONTROL_ADVERTISE: address.optional(),
    TIDEMARK_JOIN_URL: joinUrlSetting,
    TIDEMARK_JOIN_CA_FILE: fileSetting,
    TIDEMARK_JOIN_TOKEN: z.string().min(1, 'must not be empty').optional(),
    TIDEMARK_NODE_LABELS: labelsSetting,
    TIDEMARK_NBD_LISTEN: address.prefault('127.0.0.1:10809'),
    TIDEMARK_NBD_ADVERTISE: address.optional(),
    TIDEMARK_HEALTH_LISTEN: address.optional(),
    TIDEMARK_METRICS_LISTEN: address.optional(),
    TIDEMARK_QMP_LISTEN: z
      .string()
      .max(UNIX_PATH_BYTES_MAX, 'is longer than the path of a Unix socket may be')
      .regex(/^\//, 'must be the absolute path of a Unix socket, such as /run/tidemark/qmp.sock')
      .optional(),
    TIDEMARK_SCRATCH_LIMIT_BYTES: bytesSetting.default(0),
    TIDEMARK_TARGET_RECONNECT_MS: z.coerce
      .number('must be a number of milliseconds')
      .int('must be a whole number of milliseconds')
      .min(0, 'must not be negative')
      .max(TARGET_RECONNECT_MS_MAX, `must be at most ${TARGET_RECONNECT_MS_MAX}`)
      .default(TARGET_RECONNECT_MS),
    TIDEMARK_HOOKS: z
      .string()
      .transform((text, context) =>
        parseHooks(text, message => context.addIssue({ code: 'custom', message })),
      )
      .default(new Map()),
    TIDEMARK_KILL_POINTS: killPointsSetting,
    TIDEMARK_LOG_LEVEL: logLevelSetting,
  })
  .superRefine((value, context) => {
    if ((value.TIDEMARK_JOIN_TOKEN === undefined) !== (value.TIDEMARK_JOIN_URL === undefined)) {
      context.addIssue({
        code: 'custom',
        path: ['TIDEMARK_JOIN_TOKEN'],
        message: 'and TIDEMARK_JOIN_URL go together: set both, or none',
      });
    }
    if (value.TIDEMARK_FLEET_SECRET === undefined && !isLoopback(value.TIDEMARK_CONTROL_LISTEN)) {
      context.addIssue({
        code: 'custom',
        path: ['TIDEMARK_FLEET_SECRET'],
        message:
          'is needed when TIDEMARK_CONTROL_LISTEN can be reached from other machines: the same long random text for ' +
          'api, worker and every storage node, or TIDEMARK_FLEET_SECRET_FILE',
      });
    }
    if (value.TIDEMARK_NBD_ADVERTISE === undefined && isWildcard(value.TIDEMARK_NBD_LISTEN)) {
      context.addIssue({
        code: 'custom',
        path: ['TIDEMARK_NBD_ADVERTISE'],
        message: 'is needed when TIDEMARK_NBD_LISTEN is a wildcard: the host:port that others reach',
      });
    }
  })
  .transform((value, context) => {
    const now = () => Date.now();
    const host = value.TIDEMARK_CONTROL_ADVERTISE?.host;
    const tls = openFleetTls(value, { purpose: 'server', host, now }, context);
    const joinCaFile = { setting: 'TIDEMARK_JOIN_CA_FILE', path: value.TIDEMARK_JOIN_CA_FILE };
    const joinCa = readCa(joinCaFile, { now }, context);
    return tls === null || joinCa === null ? z.NEVER : { ...value, tls, joinCa };
  });

export interface StorageNodeConfig {
  readonly nodeName: string;
  /** Absolute. */
  readonly stateDir: string;
  /** gRPC. */
  readonly controlListen: HostPort;
  /** Undefined: all who reach `controlListen` are obeyed. */
  readonly fleetSecret: string | undefined;
  /** Control calls are encrypted, with certificates of both sides; undefined: plain. */
  readonly tls: TlsFiles | undefined;
  /** Where others reach it; undefined: the address that is listened on. */
  readonly controlAdvertise: HostPort | undefined;
  /** How to join the fleet at the start; undefined: an operator registers it. */
  readonly join: JoinAddress | undefined;
  /** Told with each status. */
  readonly labels: Labels;
  readonly nbdListen: HostPort;
  /** What URIs name; undefined: the address that is listened on. */
  readonly nbdAdvertise: HostPort | undefined;
  readonly healthListen: HostPort | undefined;
  readonly metricsListen: HostPort | undefined;
  /** Path of the Unix socket on which QMP clients are served; undefined: none are. */
  readonly qmpListen: string | undefined;
  /** Most that the scratch of one frozen moment takes; 0: half of what the file system has free. */
  readonly scratchLimitBytes: number;
  /** How long a copy waits for a target that went away. */
  readonly targetReconnectMs: number;
  /** Programs that may be run around a group's instant, by the names that callers know them by. */
  readonly hooks: ReadonlyMap<string, string>;
  /** For tests alone: the folder in which it is told at which moment to die. */
  readonly killPoints: string | undefined;
  readonly logLevel: string;
}

/** Throws `SettingsError`, which names every faulty variable. */
export function parseConfig(variables: Readonly<Record<string, string | undefined>>): StorageNodeConfig {
  const value = readSettings(environment, variables, [FLEET_SECRET, JOIN_TOKEN]);
  const { TIDEMARK_JOIN_URL: url, TIDEMARK_JOIN_TOKEN: token } = value;
  return Object.freeze({
    nodeName: value.TIDEMARK_NODE_NAME,
    stateDir: resolve(value.TIDEMARK_STATE_DIR),
    controlListen: value.TIDEMARK_CONTROL_LISTEN,
    fleetSecret: value.TIDEMARK_FLEET_SECRET,
    tls: value.tls,
    controlAdvertise: value.TIDEMARK_CONTROL_ADVERTISE,
    join: url === undefined || token === undefined ? undefined : { url, token, ca: value.joinCa },
    labels: value.TIDEMARK_NODE_LABELS,
    nbdListen: value.TIDEMARK_NBD_LISTEN,
    nbdAdvertise: value.TIDEMARK_NBD_ADVERTISE,
    healthListen: value.TIDEMARK_HEALTH_LISTEN,
    metricsListen: value.TIDEMARK_METRICS_LISTEN,
    qmpListen: value.TIDEMARK_QMP_LISTEN,
    scratchLimitBytes: value.TIDEMARK_SCRATCH_LIMIT_BYTES,
    targetReconnectMs: value.TIDEMARK_TARGET_RECONNECT_MS,
    hooks: value.TIDEMARK_HOOKS,
    killPoints: value.TIDEMARK_KILL_POINTS,
    logLevel: value.TIDEMARK_LOG_LEVEL,
  });
}

/** `name=/absolute/program`, separated by commas. */
function parseHooks(text: string, complain: (message: string) => void): ReadonlyMap<string, string> {
  const hooks = new Map<string, string>();
  for (const entry of text.split(',')) {
    if (entry.trim() === '') continue;
    const [, name, program] = /^\s*([a-z0-9][a-z0-9_-]{0,62})=(\/[^,]*?)\s*$/.exec(entry) ?? [];
    if (name === undefined || program === undefined) {
      complain(`names hooks as name=/absolute/program, separated by commas, not '${entry.trim()}'`);
    } else if (hooks.has(name)) complain(`names hook '${name}' twice`);
    else hooks.set(name, program);
  }
  return hooks;
}
