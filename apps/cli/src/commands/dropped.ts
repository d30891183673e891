// Checkpoints that went for a new one, as people read of them.
import type { Schema } from '@tidemark/client';

interface Dropped {
  id: string;
  name: string;
}

/** What a run says of the checkpoints that went for a new one. */
export function droppedText({ result }: Schema<'Run'>): string {
  const { dropped = [], notDropped = [] } = (result ?? {}) as {
    dropped?: Dropped[];
    notDropped?: (Dropped & { reason: string })[];
  };
  const went = dropped.map(({ name }) => `\ndropped checkpoint ${name}`);
  const stayed = notDropped.map(({ name, reason }) => `\ncheckpoint ${name} was not dropped: ${reason}`);
  return [...went, ...stayed].join('');
}
