// Builds the command and runs it once. Exit codes: 0 done, 1 failed, 2 not understood, 3 done with holes.
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { auditLogCommand } from './commands/audit-log.ts';
import { backupCommands } from './commands/backup.ts';
import { checkpointCommands } from './commands/checkpoint.ts';
import { commitCommands } from './commands/commit.ts';
import type { Surroundings } from './commands/context.ts';
import { differenceCommands } from './commands/difference.ts';
import { eventCommands } from './commands/event.ts';
import { exportCommands } from './commands/export.ts';
import { groupCommands } from './commands/group.ts';
import { policyCommands } from './commands/policy.ts';
import { pruneCommand } from './commands/prune.ts';
import { replicationCommands } from './commands/replication.ts';
import { repositoryCommands } from './commands/repository.ts';
import { restoreCommands } from './commands/restore.ts';
import { runCommands } from './commands/run.ts';
import { snapshotCommands } from './commands/snapshot.ts';
import { storageNodeCommands } from './commands/storage-node.ts';
import { tokenCommands } from './commands/token.ts';
import { volumeCommands } from './commands/volume.ts';
import { webhookCommands } from './commands/webhook.ts';
import { CompleteWithHoles, describeFailure, type Terminal } from './output.ts';
import { version } from './version.ts';

export interface ProgramOptions {
  /** Used unless `--url` is given. */
  readonly url: string;
  /** Of the API, where it needs one. */
  readonly token?: string | undefined;
  /** A file that holds it, where no `--token-file` is given. */
  readonly tokenFile?: string | undefined;
  /** A file that holds the CA of the API's certificate, where no `--ca-file` is given. */
  readonly caFile?: string | undefined;
  readonly terminal: Terminal;
}

const DONE = 0;
const FAILED = 1;
const NOT_UNDERSTOOD = 2;
const WITH_HOLES = 3;

const isUrl = (text: string): boolean => /^https?:\/\/[^/]/.test(text) && URL.canParse(text);

function parseUrl(text: string): string {
  if (!isUrl(text)) throw new InvalidArgumentError('Give an address like http://127.0.0.1:7400.');
  return text;
}

function notAnAddress({ url, terminal }: ProgramOptions): number {
  terminal.err.write(`error: TIDEMARK_URL is '${url}'. Give an address like http://127.0.0.1:7400.\n`);
  return NOT_UNDERSTOOD;
}

function buildProgram({ url, token, tokenFile, caFile, terminal }: ProgramOptions): Command {
  const program = new Command('tidemark')
    .description('Named points in time of block volumes across a fleet of storage nodes.')
    .version(version)
    .option('--url <url>', 'address of the API, also TIDEMARK_URL', parseUrl, url)
    .option(
      '--token-file <path>',
      'file that holds a token, also TIDEMARK_TOKEN_FILE; or TIDEMARK_TOKEN',
      tokenFile,
    )
    .option(
      '--ca-file <path>',
      "CA (PEM) that is trusted for an https:// address, also TIDEMARK_CA_FILE; else the system's",
      caFile,
    )
    .option('--json', 'print the answer of the API, and nothing else, on stdout')
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: text => terminal.out.write(text),
      writeErr: text => terminal.err.write(text),
    })
    .exitOverride();
  const around: Surroundings = { terminal, token };
  storageNodeCommands(program, around);
  volumeCommands(program, around);
  checkpointCommands(program, around);
  snapshotCommands(program, around);
  commitCommands(program, around);
  groupCommands(program, around);
  repositoryCommands(program, around);
  backupCommands(program, around);
  exportCommands(program, around);
  restoreCommands(program, around);
  pruneCommand(program, around);
  policyCommands(program, around);
  replicationCommands(program, around);
  runCommands(program, around);
  eventCommands(program, around);
  webhookCommands(program, around);
  differenceCommands(program, around);
  tokenCommands(program, around);
  auditLogCommand(program, around);
  return program;
}

/** Runs one command line (without `node` and the script) and returns its exit code. Never rejects. */
export async function runProgram(args: readonly string[], options: ProgramOptions): Promise<number> {
  const { terminal } = options;
  try {
    if (!isUrl(options.url)) return notAnAddress(options);
    await buildProgram(options).parseAsync(args, { from: 'user' });
    return DONE;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has told its own errors already; those of our actions it has not.
      if (error instanceof InvalidArgumentError) terminal.err.write(`error: ${error.message}\n`);
      return error.exitCode === 0 ? DONE : NOT_UNDERSTOOD;
    }
    if (error instanceof CompleteWithHoles) {
      terminal.err.write(`${error.message}\n`);
      return WITH_HOLES;
    }
    terminal.err.write(`${describeFailure(error)}\n`);
    return FAILED;
  }
}
