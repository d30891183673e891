// Answers of many messages: the next one is made when the reader has taken the one before, and none after it has gone.
import type { handleServerStreamingCall, MethodDefinition, ServerWritableStream } from '@grpc/grpc-js';
import { toServiceError } from '@tidemark/proto';
import { toTidemarkError } from './errors.ts';
import type { CallContext } from './handlers.ts';

/** The signal says that the reader has gone: for one that waits for news. */
type Producer<Request, Answer> = (
  request: Request,
  signal: AbortSignal,
) => Iterable<Answer> | AsyncIterable<Answer>;

/** A call that only reads, and answers with what `produce` gives, one after the other. */
export function stream<Request, Answer>(
  { report }: Pick<CallContext, 'report'>,
  definition: MethodDefinition<Request, Answer>,
  produce: Producer<Request, Answer>,
): handleServerStreamingCall<Request, Answer> {
  return call => {
    send(call, produce).catch((thrown: unknown) => {
      const error = toTidemarkError(thrown);
      report({ method: definition.path, error });
      call.emit('error', toServiceError(error));
    });
  };
}

async function send<Request, Answer>(
  call: ServerWritableStream<Request, Answer>,
  produce: Producer<Request, Answer>,
): Promise<void> {
  const leaving = new AbortController();
  const gone = new Promise<void>(resolve => call.once('cancelled', () => resolve()));
  void gone.then(() => leaving.abort());
  for await (const message of produce(call.request, leaving.signal)) {
    if (call.cancelled) return;
    // The callback comes when the message has left, which is when its reader has room for it.
    const sent = new Promise<void>(resolve => call.write(message, () => resolve()));
    await Promise.race([sent, gone]);
  }
  if (!call.cancelled) call.end();
}
