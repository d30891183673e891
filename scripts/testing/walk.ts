// Reads a walk through the product: the blocks of commands of a document, each with what it is to print.

export interface CommandBlock {
  /** Lines of a shell. */
  readonly commands: string;
  /** It goes on until the walk is over. */
  readonly inBackground: boolean;
  /** Lines of what it prints, `…` for whatever stands there; null: anything. */
  readonly output: readonly string[] | null;
  /** Of its first line in the document, from 1. */
  readonly line: number;
}

const FENCE = /^```(\S*)(.*)$/;

/** Throws when a block does not end, or when there is output of nothing. */
export function readWalk(text: string): CommandBlock[] {
  const blocks: CommandBlock[] = [];
  const lines = text.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const [, language, more = ''] = FENCE.exec(lines[at]!) ?? [];
    if (language === undefined) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`the block of line ${at + 1} does not end`);
    const content = lines.slice(at + 1, end);
    if (language === 'sh') {
      const inBackground = more.trim() === 'in=background';
      blocks.push({ commands: content.join('\n'), inBackground, output: null, line: at + 2 });
    } else if (language === 'text') {
      const last = blocks.pop();
      if (last === undefined) throw new Error(`line ${at + 1} shows the output of nothing`);
      blocks.push({ ...last, output: content });
    }
    at = end;
  }
  return blocks;
}

/** Whether `printed` has the lines in their order; a line that is `…` stands for any number of others. */
export function fits(printed: string, expected: readonly string[]): boolean {
  const pattern = expected.map(line => {
    if (line === '…') return '(?:.*\\n)*?';
    const parts = line.split('…').map(part => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    return `${parts.join('.*').replaceAll(/ +/g, ' +')} *\\n`;
  });
  const open = expected.at(-1) === '…' ? '' : '(?:.*\\n)*';
  return new RegExp(`^${pattern.join('')}${open}$`).test(printed.endsWith('\n') ? printed : `${printed}\n`);
}
