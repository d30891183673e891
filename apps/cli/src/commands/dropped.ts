// Checkpoints that went for a new one, as people read of them.
import { resultOf, type Schema } from '@tidemark/client';

/** What a run says of the checkpoints that went for a new one. */
export function droppedText(run: Schema<'Run'>): string {
  const result = resultOf(run, 'backup') ?? resultOf(run, 'create-checkpoint');
  const { dropped = [], notDropped = [] } = result ?? {};
  const went = dropped.map(({ name }) => `\ndropped checkpoint ${name}`);
  const stayed = notDropped.map(({ name, reason }) => `\ncheckpoint ${name} was not dropped: ${reason}`);
  return [...went, ...stayed].join('');
}
