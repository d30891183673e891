// `--chardev`: where a monitor's clients connect. A Unix socket that the daemon listens on is the only kind.
import { type KeyValues, parseKeyValues } from './key-values.ts';
import type { MonitorListenOptions } from './monitor-server.ts';
import { genericError } from './qmp-error.ts';

export interface Chardev {
  readonly id: string;
  readonly listen: MonitorListenOptions;
}

/** `wait` is known, but nothing is waited for: clients that come later find the same daemon. */
const KNOWN = ['backend', 'id', 'path', 'fd', 'server', 'wait', 'host', 'port'];
/** Identifiers of QEMU: a letter first. */
const ID = /^[A-Za-z][A-Za-z0-9\-._]*$/;
/** Switches that scripts still write without a value. */
const SWITCHES: Readonly<Record<string, string>> = {
  server: 'server=on',
  wait: 'wait=on',
  nowait: 'wait=off',
};

/** Throws `QmpError`. */
export function parseChardev(text: string): Chardev {
  const words = text.split(/(?<!,),(?!,)/).map(word => SWITCHES[word] ?? word);
  const values = parseKeyValues(words.join(','), 'backend');
  const unknown = Object.keys(values).find(key => !KNOWN.includes(key));
  if (unknown !== undefined) throw genericError(`Invalid parameter '${unknown}'`);
  const { backend, id, path, fd } = values as Record<string, string | undefined>;
  if (id === undefined) throw genericError('chardev: no id specified');
  if (!ID.test(id)) throw genericError("Parameter 'id' expects an identifier");
  if (backend === undefined) throw genericError(`chardev: "${id}" missing backend`);
  if (backend !== 'socket') throw genericError(`'${backend}' is not a valid char driver name`);
  const isServer = readSwitch(values, 'server');
  readSwitch(values, 'wait');
  if (path !== undefined && fd !== undefined) {
    throw genericError("None or one of 'path', 'fd' or 'host' option required.");
  }
  if (!isServer) throw genericError("only 'server=on' is offered: the daemon waits for its clients");
  if (path !== undefined) return { id, listen: { path } };
  if (fd !== undefined && /^[0-9]+$/.test(fd)) return { id, listen: { fd: Number(fd) } };
  throw genericError("only Unix sockets are offered: give 'path' or 'fd'");
}

function readSwitch(values: KeyValues, key: string): boolean {
  const value = values[key] ?? 'off';
  if (value !== 'on' && value !== 'off') throw genericError(`Parameter '${key}' expects 'on' or 'off'`);
  return value === 'on';
}
