// The NBD servers that are compared, each over the same file, each as it comes but for what makes them
// comparable: the page cache is used, several clients may connect, discards are passed on.

import { findTool } from '../demo/tool.ts';
import { freePort } from '../process/ports.mjs';
import type { Disk } from './disk.ts';
import { Background } from './program.ts';

export interface Server {
  readonly name: string;
  readonly uri: string;
  stop(): Promise<unknown>;
}

const OURS = 'tidemark';

const PEERS: { name: string; args(path: string, port: number): string[] }[] = [
  {
    name: 'qemu-nbd',
    args: (path, port) => [
      ...['--format=raw', '--persistent', '--shared=16', '--bind=127.0.0.1', `--port=${port}`],
      ...['--cache=writeback', '--discard=unmap', path],
    ],
  },
  {
    name: 'nbdkit',
    args: (path, port) => ['--foreground', '--ipaddr=127.0.0.1', `--port=${port}`, 'file', path],
  },
  {
    name: 'qemu-storage-daemon',
    args: (path, port) => [
      ...['--blockdev', `driver=file,node-name=file,filename=${path},discard=unmap`],
      ...['--blockdev', 'driver=raw,node-name=disk,file=file,discard=unmap'],
      ...['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${port},max-connections=16`],
      ...['--export', 'type=nbd,id=bench,node-name=disk,name=,writable=on'],
    ],
  },
];

/** Names of the others that are not installed. */
export function missingPeers(): string[] {
  return PEERS.map(({ name }) => name).filter(name => findTool(name) === null);
}

/** Ours first. Those that are not installed are left out. `cleanup` is given what ends each that was begun. */
export async function startServers(
  disk: Disk,
  cleanup: (action: () => Promise<unknown>) => void,
): Promise<Server[]> {
  const servers: Server[] = [{ name: OURS, uri: disk.uri, stop: async () => {} }];
  for (const { name, args } of PEERS) {
    if (findTool(name) === null) continue;
    const port = await freePort();
    const server = new Background(name, args(disk.path, port));
    cleanup(() => server.stop());
    servers.push({ name, uri: `nbd://127.0.0.1:${port}/`, stop: () => server.stop() });
    await server.listening(port);
  }
  return servers;
}
