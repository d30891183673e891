// A storage node that no stack knows: on free ports, with what it prints.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../apps/storage-node/src/main.ts', import.meta.url));

export interface Spawned {
  readonly output: string;
  /** In order. */
  stop(): Promise<void>;
}

export function spawnStorageNode(options: {
  name: string;
  stateDir: string;
  settings: Record<string, string>;
}): Spawned {
  const env = {
    TIDEMARK_NODE_NAME: options.name,
    TIDEMARK_STATE_DIR: options.stateDir,
    TIDEMARK_CONTROL_LISTEN: '127.0.0.1:0',
    TIDEMARK_NBD_LISTEN: '127.0.0.1:0',
    ...options.settings,
  };
  const child = spawn(process.execPath, [MAIN], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'exit');
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      output += chunk;
    });
  }
  return {
    get output() {
      return output;
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
