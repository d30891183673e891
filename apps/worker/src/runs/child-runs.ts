// Runs that start others and wait for them. The id of a child follows from its parent and what it is about: an attempt
// that died has started it or not, and the next one finds out by looking.
import { createHash } from 'node:crypto';
import { hasEnded, type Run } from '@tidemark/catalog';
import type { RunContext } from './run-definition.ts';

/** In the form of an id of version 8, which is for what each makes of it (RFC 9562, section 5.8). */
export function childRunId(parentId: string, subjectId: string): string {
  const hash = createHash('sha256').update(`${parentId}/${subjectId}`).digest('hex');
  const variant = ((Number.parseInt(hash[16]!, 16) & 0x3) | 0x8).toString(16);
  const parts = [
    hash.slice(0, 8),
    hash.slice(8, 12),
    `8${hash.slice(13, 16)}`,
    `${variant}${hash.slice(17, 20)}`,
  ];
  return [...parts, hash.slice(20, 32)].join('-');
}

/** A child is asked for by whoever asked for its parent, and has its place among runs that wait. */
export function onBehalfOf({
  run: { requestedBy, priority },
}: RunContext): Pick<Run, 'requestedBy' | 'priority'> {
  return { requestedBy, priority };
}

export function findChild({ catalog, run }: RunContext, subjectId: string): Promise<Run | null> {
  return catalog.runs.find(childRunId(run.id, subjectId));
}

/** Those that go on are asked to end. Good to repeat. */
export async function cancelChildren(context: RunContext, subjectIds: readonly string[]): Promise<void> {
  for (const subjectId of subjectIds) {
    const child = await findChild(context, subjectId);
    if (child !== null && !hasEnded(child)) await context.catalog.runs.requestCancel(child.id);
  }
}
