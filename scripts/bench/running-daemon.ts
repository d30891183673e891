// One of the two storage daemons under QMP, for as long as something of it is measured.

import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Daemon, type Side } from '../../apps/storage-node/test/oracle/daemon.ts';

export interface Running {
  readonly daemon: Daemon;
  readonly folder: string;
  /** Fails where the daemon refuses. */
  ask(command: string, args?: object): Promise<unknown>;
  exportNode(node: string): Promise<string>;
}

/** Starts one side's daemon with an NBD server in a folder of its own; both are gone afterwards. */
export async function withDaemon<T>(
  side: Side,
  folder: string,
  use: (running: Running) => Promise<T>,
): Promise<T> {
  const own = join(folder, side);
  await mkdir(own, { recursive: true });
  const daemon = await Daemon.start({ side, folder: own });
  const ask = async (command: string, args?: object): Promise<unknown> => {
    const reply = await daemon.qmp.execute(command, args);
    if (reply.error !== undefined) throw new Error(`${side}: ${command}: ${reply.error.desc}`);
    return reply.return;
  };
  const socket = join(own, 'nbd.sock');
  const exportNode = async (node: string): Promise<string> => {
    const id = `bench-${node}`;
    await ask('block-export-add', { type: 'nbd', id, 'node-name': node, name: node, writable: true });
    return `nbd+unix:///${node}?socket=${socket}`;
  };
  try {
    await ask('nbd-server-start', { addr: { type: 'unix', data: { path: socket } } });
    return await use({ daemon, folder: own, ask, exportNode });
  } finally {
    await daemon.quit().catch(() => daemon.kill());
    await rm(own, { recursive: true, force: true });
  }
}

/** Options of an image in a file of this machine. */
export const openFile = (driver: string, node: string, filename: string) => ({
  driver,
  'node-name': node,
  file: { driver: 'file', filename },
});
