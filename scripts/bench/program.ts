// Programs of others that the benchmark runs: to their end, or in the background until told to stop.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const OUTPUT_CHARACTERS_MAX = 4_000_000;
const START_TIMEOUT_MS = 5_000;
const START_POLL_MS = 10;

/** Its standard output. Rejects with what it said on standard error when it fails. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [output, messages] = [collect(child.stdout), collect(child.stderr)];
  const [code, signal] = await once(child, 'close');
  if (code !== 0) throw new Error(`${program} ended with ${code ?? signal}: ${messages()}${output()}`);
  return output();
}

function collect(stream: NodeJS.ReadableStream): () => string {
  let text = '';
  stream.setEncoding('utf8').on('data', (piece: string) => {
    text = (text + piece).slice(-OUTPUT_CHARACTERS_MAX);
  });
  return () => text;
}

/** A program that serves until `stop`. */
export class Background {
  readonly child: ChildProcess;
  readonly #messages: () => string;

  constructor(program: string, args: readonly string[], stdin: 'ignore' | 'pipe' = 'ignore') {
    this.child = spawn(program, args, { stdio: [stdin, 'pipe', 'pipe'] });
    this.#messages = collect(this.child.stderr!);
  }

  /** Resolves when somebody listens on the port of 127.0.0.1; rejects when the program ends before. */
  async listening(port: number): Promise<void> {
    this.child.stdout!.resume();
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await canConnect(port))) {
      if (this.child.exitCode !== null || performance.now() > deadline) {
        throw new Error(`${this.child.spawnfile} does not listen on port ${port}: ${this.#messages()}`);
      }
      await delay(START_POLL_MS);
    }
  }

  /** Afterwards it does not run. Good to repeat. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exited = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    await exited;
  }
}

function canConnect(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
