// Goal: the answer follows the check. Method: real requests.
import { expect, test } from 'vitest';
import { startHealthServer } from './health-server.ts';
import { parseHostPort } from './host-port.ts';

test('200 while the check passes, 503 with its words when it does not, 404 elsewhere', async () => {
  let fault: string | null = null;
  const server = await startHealthServer({
    listen: { host: '127.0.0.1', port: 0 },
    check: () => {
      if (fault) throw new Error(fault);
    },
  });
  try {
    expect((await fetch(`http://${server.address}/healthz`)).status).toBe(200);
    fault = 'the catalog is away';
    const sick = await fetch(`http://${server.address}/healthz`);
    expect([sick.status, await sick.json()]).toEqual([503, { status: 'unavailable', detail: fault }]);
    expect((await fetch(`http://${server.address}/other`)).status).toBe(404);
  } finally {
    await server.close();
  }
});

test('a taken port is refused', async () => {
  const first = await startHealthServer({ listen: { host: '127.0.0.1', port: 0 }, check: () => {} });
  const taken = parseHostPort(first.address)!;
  await expect(startHealthServer({ listen: taken, check: () => {} })).rejects.toThrow('EADDRINUSE');
  await first.close();
});
