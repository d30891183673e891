// The command `tidemark-image`.
import { systemClock } from '@tidemark/engine';
import { runImageTool } from './image-tool.ts';

const write = (stream: NodeJS.WriteStream) => (text: string) => void stream.write(text);

process.exitCode = await runImageTool(process.argv.slice(2), {
  out: write(process.stdout),
  err: write(process.stderr),
  wallMs: () => systemClock.wallMs(),
});
