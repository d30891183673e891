// The command in a shell, on a real API with a database of its own; a loop does what a worker would do to the rows.
import { PassThrough } from 'node:stream';
import { buildApp } from '@tidemark/api/app';
import { createTestDatabase, type TestDatabase } from '@tidemark/catalog/testing';
import { expect } from 'vitest';
import { runProgram } from '../../src/program.ts';
import { StandInWorker } from './stand-in-worker.ts';

export class Shell {
  readonly app: Awaited<ReturnType<typeof buildApp>>;
  readonly url: string;
  readonly worker: StandInWorker;
  readonly #database: TestDatabase;

  private constructor(app: Shell['app'], url: string, database: TestDatabase) {
    this.app = app;
    this.url = url;
    this.#database = database;
    this.worker = new StandInWorker(app.catalog);
    this.worker.start();
  }

  static async open(): Promise<Shell> {
    const database = await createTestDatabase();
    const app = await buildApp({ databaseUrl: database.url, queueUrl: database.url });
    return new Shell(app, await app.listen({ host: '127.0.0.1', port: 0 }), database);
  }

  async close(): Promise<void> {
    await this.worker.stop();
    await this.app.close();
    await this.#database.drop();
  }

  /** `tidemark …` where no terminal is. */
  async run(...args: string[]): Promise<{ exit: number; out: string; err: string }> {
    const out = new PassThrough();
    const err = Object.assign(new PassThrough(), { isTTY: false });
    const exit = await runProgram(args, { url: this.url, terminal: { out, err } });
    return { exit, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
  }

  /** Expects success; resolves with what it printed. */
  async done(...args: string[]): Promise<string> {
    const { exit, out, err } = await this.run(...args);
    expect(exit, err).toBe(0);
    return out;
  }
}
