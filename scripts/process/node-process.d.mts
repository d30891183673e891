import type { ChildProcess } from 'node:child_process';

export interface NodeProcessOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Streams 0, 1, 2; a number is a file descriptor. Default: ours. */
  stdio?: Array<'inherit' | 'ignore' | number>;
}

export declare const compiledFolder: string;
export declare function nodeEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv;
export declare function spawnNode(node: string, args: string[], options?: NodeProcessOptions): ChildProcess;
export declare function handOver(node: string, args: string[], options?: NodeProcessOptions): Promise<never>;
