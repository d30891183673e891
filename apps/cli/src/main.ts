// The tidemark command.
import { runProgram } from './program.ts';

const URL_DEFAULT = 'http://127.0.0.1:7400';

// A reader that has seen enough, like `head`, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

process.exitCode = await runProgram(process.argv.slice(2), {
  url: process.env.TIDEMARK_URL || URL_DEFAULT,
  token: process.env.TIDEMARK_TOKEN || undefined,
  tokenFile: process.env.TIDEMARK_TOKEN_FILE || undefined,
  caFile: process.env.TIDEMARK_CA_FILE || undefined,
  terminal: { out: process.stdout, err: process.stderr },
});
