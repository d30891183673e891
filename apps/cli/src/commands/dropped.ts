// Checkpoints that went for a new one, as people read of them.
import { resultOf, type Schema } from '@tidemark/client';

/** Of a group's it is said which volume it was of. */
const which = ({ name, volume }: { name: string; volume?: string }): string =>
  volume === undefined ? name : `${name} of ${volume}`;

/** What a run says of the checkpoints that went for a new one. */
export function droppedText(run: Schema<'Run'>): string {
  const result =
    resultOf(run, 'backup') ?? resultOf(run, 'create-checkpoint') ?? resultOf(run, 'create-group');
  const { dropped = [], notDropped = [] } = result ?? {};
  const went = dropped.map(one => `\ndropped checkpoint ${which(one)}`);
  const stayed = notDropped.map(one => `\ncheckpoint ${which(one)} was not dropped: ${one.reason}`);
  return [...went, ...stayed].join('');
}
