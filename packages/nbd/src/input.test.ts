// Goal: an accepted socket delivers its bytes into our memory, and by `data` events where that is impossible.
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { adoptSocket } from './input.ts';

const opened: { destroy(): void }[] = [];
afterEach(() => {
  for (const each of opened.splice(0)) each.destroy();
});

it.each([true, false])('own memory: %s', async own => {
  const memory = Buffer.alloc(1000);
  const received: { own: boolean; text: string }[] = [];
  const receiver = {
    nextBuffer: () => memory,
    receive: (buffer: Buffer, length: number) => {
      received.push({ own: buffer === memory, text: buffer.toString('latin1', 0, length) });
    },
  };
  let accepted: Socket | undefined;
  const listener = createServer({ pauseOnConnect: true }, socket => {
    const inside = socket as unknown as { _handle: { useUserBuffer: unknown } };
    if (!own) inside._handle.useUserBuffer = undefined;
    accepted = adoptSocket(socket, receiver);
    opened.push(accepted);
  });
  await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve));
  const client = connect((listener.address() as { port: number }).port, '127.0.0.1');
  opened.push(client, { destroy: () => listener.close() });
  client.write('hello');
  await expect.poll(() => received).toEqual([{ own, text: 'hello' }]);
  const answer = new Promise(resolve => client.once('data', data => resolve(data.toString())));
  accepted!.write('back');
  expect(await answer).toBe('back');
  const closed = new Promise(resolve => accepted!.once('close', resolve));
  client.end();
  await closed;
});
