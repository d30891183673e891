// The same command lines for qemu-img and for ours, each in a folder of its own, and what they answer.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished } from 'vitest';
import { runImageTool } from '../../src/image-tool/image-tool.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 60_000;
const SIDES = ['qemu', 'tidemark'] as const;
type Side = (typeof SIDES)[number];

export interface Answer {
  code: number;
  out: unknown;
  err: string;
}

export interface CompareOptions {
  /** False: what is said on the error output is each tool's own. Default true. */
  readonly errors?: boolean;
}

/** In a command line `@name` is a file of the side's folder. */
export class ImageToolPair {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async make(): Promise<ImageToolPair> {
    const folder = await mkdtemp(join(tmpdir(), 'tidemark-image-tool-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for (const side of SIDES) await mkdir(join(folder, side));
    return new ImageToolPair(folder);
  }

  path(side: Side, name: string): string {
    return join(this.#folder, side, name);
  }

  #words(side: Side, words: readonly string[]): string[] {
    return words.map(word => word.replaceAll('@', `${join(this.#folder, side)}/`));
  }

  /** The same tool on both sides, to prepare images; must succeed. */
  async both(program: string, ...words: string[]): Promise<void> {
    for (const side of SIDES) await run(program, this.#words(side, words), { timeout: TIMEOUT_MS });
  }

  /** Both must answer alike. Returns ours. */
  async same(words: readonly string[], { errors = true }: CompareOptions = {}): Promise<Answer> {
    const theirs = this.#normalise(await this.#qemu(words), 'qemu');
    const mine = this.#normalise(await this.ours(words), 'tidemark');
    if (!errors) Object.assign(theirs, { err: mine.err });
    expect(mine, words.join(' ')).toEqual(theirs);
    return mine;
  }

  async #qemu(words: readonly string[]): Promise<Answer> {
    const full = this.#words('qemu', words);
    return run('qemu-img', full, { timeout: TIMEOUT_MS }).then(
      ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
      (error: { code: number; stdout: string; stderr: string }) => ({
        code: error.code,
        out: error.stdout,
        err: error.stderr,
      }),
    );
  }

  async ours(words: readonly string[]): Promise<Answer> {
    let out = '';
    let err = '';
    const code = await runImageTool(this.#words('tidemark', words), {
      out: text => {
        out += text;
      },
      err: text => {
        err += text;
      },
      wallMs: () => Date.now(),
    });
    return { code, out, err };
  }

  /** Without folders, names of tools, and space on the disk, which is the file system's business. */
  #normalise({ code, out, err }: Answer, side: Side): Answer {
    const clean = (text: string) =>
      text
        .replaceAll(`${join(this.#folder, side)}/`, '@')
        .replaceAll('tidemark-image', 'qemu-img')
        .replace(/disk size: .*$/gm, 'disk size')
        .trimEnd();
    const text = clean(String(out));
    return { code, out: /^[[{]/.test(text) ? withoutSpace(JSON.parse(text)) : text, err: clean(err) };
  }

  /** Both sides' images of that name have the same contents, and ours is clean. */
  async sameContents(name: string, format = 'qcow2'): Promise<void> {
    const [theirs, mine] = SIDES.map(side => this.path(side, name)) as [string, string];
    await run('qemu-img', ['compare', '-f', format, '-F', format, theirs, mine], { timeout: TIMEOUT_MS });
    if (format === 'qcow2') await run('qemu-img', ['check', '-q', mine], { timeout: TIMEOUT_MS });
  }
}

function withoutSpace(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, member) => (key === 'actual-size' ? undefined : member)));
}
