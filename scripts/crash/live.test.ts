// Goal: who follows events goes on at another api where the one before broke off, and a sink of webhooks tells what was
// not signed or came in a wrong order. Method: apis that are a few lines each; deliveries by hand.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { SIGNATURE_HEADER, signWebhook } from '@tidemark/proto';
import { afterEach, expect, test } from 'vitest';
import { SeededRandom } from '../../packages/engine/src/testing/seeded-random.ts';
import { EventFollower } from './event-follower.ts';
import { WebhookSink } from './webhook-sink.ts';

const servers: Server[] = [];
let follower: EventFollower | undefined;
let sink: WebhookSink | undefined;

afterEach(async () => {
  await follower?.stop();
  sink?.close();
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

/** Tells of up to `most` events that follow the one asked for, up to the tenth, and breaks off. */
async function api(most: number): Promise<string> {
  const server = createServer((request, response) => {
    const after = Number(request.headers['last-event-id']);
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(`: heartbeat\nid: ${after}\n\nevent: run.progress\ndata: {}\n\n`);
    for (let id = after + 1; id <= Math.min(after + most, 10); id += 1) {
      response.write(`id: ${id}\nevent: volume-ready\ndata: {"id": ${id}}\n\n`);
    }
    response.end();
  });
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('events are followed from one api to the next, each once', async () => {
  follower = new EventFollower([await api(3), await api(2)]);
  follower.start();
  await expect.poll(() => follower!.last, { timeout: 30_000 }).toBe(10);
  expect(follower.take()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test('deliveries are taken once, and faults are told', async () => {
  // Of this seed the first answers are no refusals.
  sink = new WebhookSink(new SeededRandom(1));
  const url = await sink.listen();
  sink.expectSecret('known');
  const send = async (id: number, secret: string): Promise<number> => {
    const body = JSON.stringify({ event: { id } });
    const signature = signWebhook(body, { secret, seconds: Math.floor(Date.now() / 1000) });
    const answer = await fetch(url, { method: 'POST', body, headers: { [SIGNATURE_HEADER]: signature } });
    return answer.status;
  };
  expect([await send(1, 'known'), await send(3, 'known'), await send(3, 'known')]).toEqual([204, 204, 204]);
  expect([1, 2, 3].map(id => sink!.hasTaken(id))).toEqual([true, false, true]);
  expect(sink.faults).toEqual([]);
  await send(2, 'known');
  await send(4, 'guessed');
  expect(sink.faults).toEqual([
    'event 2 was sent after 3',
    expect.stringContaining('not signed as it should be'),
  ]);
});
