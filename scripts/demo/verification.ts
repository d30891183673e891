// Proves every restore equal to its source, with the demo's own eyes first and then, where they are installed,
// with other people's tools.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Fault } from './consistency-check.ts';
import type { Demo, Taken } from './demo.ts';
import { type DiskReader, openExport, openFile } from './disk-reader.ts';
import { type Display, seconds, size } from './display.ts';
import { FAULTS_SAID_MAX } from './layout.ts';
import { checkRestore, type Verdict } from './restore-check.ts';
import { findTool, runTool } from './tool.ts';

export interface VerificationOptions {
  readonly demo: Demo;
  readonly display: Display;
  readonly signal: AbortSignal;
  /** Whether the disk begins with a filesystem that e2fsck knows. */
  readonly ext4: boolean;
  /** Folder under which the backups' files are. */
  readonly repositoryFolder: string;
}

/** What came of one checkpoint: whether each restore is equal. */
export interface Outcome {
  readonly volume: boolean;
  readonly file: boolean;
}

export class Verification {
  readonly #options: VerificationOptions;
  #toolsFailed = false;

  constructor(options: VerificationOptions) {
    this.#options = options;
  }

  /** Whether one of the other tools found something wrong. */
  get toolsFailed(): boolean {
    return this.#toolsFailed;
  }

  /** Restores the checkpoint to a volume and to a file, checks both, and says what is wrong. */
  async check(taken: Taken): Promise<Outcome> {
    const { demo } = this.#options;
    const day = taken.expectation.checkpoint;
    const volume = await demo.restoreToVolume(day);
    const looking = this.#look(await openExport(volume.uri), taken);
    looking.catch(() => {}); // told below: the next restore goes on meanwhile
    const file = await demo.restoreToFile(day);
    const onVolume = this.#say(`${day} → volume`, await looking, { taken, seconds: volume.seconds });
    const found = await this.#look(await openFile(file.path), taken);
    const inFile = this.#say(`${day} → file`, found, { taken, seconds: file.seconds });
    await this.#askTools(taken, file.path);
    return { volume: onVolume, file: inFile };
  }

  /** Says which tools were not there to be asked. */
  sayMissingTools(): void {
    const missing = ['e2fsck', 'qemu-img'].filter(tool => findTool(tool) === null);
    if (missing.length > 0)
      this.#options.display.detail(`not installed, so not asked: ${missing.join(', ')}`);
  }

  async #look(restored: DiskReader, { expectation }: Taken): Promise<Verdict> {
    const { demo, signal } = this.#options;
    try {
      return await checkRestore(restored, expectation, demo.writer.history, signal);
    } finally {
      await restored.close();
    }
  }

  #say(label: string, verdict: Verdict, restore: { taken: Taken; seconds: number }): boolean {
    const { display } = this.#options;
    const { faults } = verdict;
    if (faults.length === 0) {
      display.done(label, `restored in ${seconds(restore.seconds)}: ${describe(verdict, restore.taken)}`);
      return true;
    }
    display.failed(label, `differs in ${faults.length === 1 ? 'one place' : `${faults.length} places`}:`);
    for (const fault of faults.slice(0, FAULTS_SAID_MAX)) display.detail(sayFault(fault));
    if (faults.length > FAULTS_SAID_MAX) display.detail(`… and ${faults.length - FAULTS_SAID_MAX} more`);
    return false;
  }

  async #askTools({ backup, expectation }: Taken, restoredFile: string): Promise<void> {
    const { ext4, repositoryFolder } = this.#options;
    const [e2fsck, qemuImg] = [findTool('e2fsck'), findTool('qemu-img')];
    const said: string[] = [];
    if (e2fsck && ext4 && (await this.#ask(e2fsck, ['-fn', restoredFile]))) said.push('e2fsck: clean');
    const image = qemuImg && backup.fileName ? await findFile(repositoryFolder, backup.fileName) : null;
    if (qemuImg && image) {
      if (await this.#ask(qemuImg, ['check', '-U', '-f', 'qcow2', image]))
        said.push('qemu-img check: no errors');
      const compare = ['compare', '-U', '-f', 'qcow2', '-F', 'raw', image, restoredFile];
      if (await this.#ask(qemuImg, compare)) said.push('qemu-img compare: backup and file are identical');
    }
    const { display } = this.#options;
    if (said.length > 0) display.done(`${expectation.checkpoint}, others say`, said.join('; '));
  }

  async #ask(tool: string, args: string[]): Promise<boolean> {
    const { display, signal } = this.#options;
    const { code, messages } = await runTool(tool, args, { signal });
    if (code === 0) return true;
    this.#toolsFailed = true;
    display.failed(tool, `${args.join(' ')} says (exit code ${code}):\n${messages.trim()}`);
    return false;
  }
}

function describe(
  { comparedBytes, demandedWrites, forbiddenWrites }: Verdict,
  { expectation }: Taken,
): string {
  const compared = `${size(comparedBytes)} equal`;
  if (expectation.written === null) return `${compared}, the whole disk`;
  const [before, after] = [demandedWrites, forbiddenWrites].map(count => count.toLocaleString('en'));
  return `${compared}; all ${before} writes before the request, none of ${after} after the reply`;
}

function sayFault({ offset, length, expected, found }: Fault): string {
  return `bytes ${offset} to ${offset + length - 1}: expected ${expected}, found ${found}`;
}

/** `path` is relative to a repository's folder, which lies somewhere in `folder`. */
async function findFile(folder: string, path: string): Promise<string | null> {
  const found = (await readdir(folder, { recursive: true })).find(entry => entry.endsWith(`/${path}`));
  return found === undefined ? null : join(folder, found);
}
