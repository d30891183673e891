// TCP ports of 127.0.0.1 for what the scripts start.

import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

// Below those that the kernel gives to connections (32768 and up, ip_local_port_range of Linux), and to whoever
// listens on port 0: a service that is started again must find its port free, though others connect to it meanwhile.
const LOWEST = 15_000;
const BEYOND = 32_000;
const TRIES = 100;

/** @param {number} port */
export function isFree(port) {
  return new Promise(done => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}

/** @returns {Promise<number>} a TCP port of 127.0.0.1 that was free a moment ago, and that no connection is given */
export async function freePort() {
  for (let tries = 0; tries < TRIES; tries++) {
    const port = randomInt(LOWEST, BEYOND);
    if (await isFree(port)) return port;
  }
  throw new Error(
    `none of ${TRIES} ports of 127.0.0.1 from ${LOWEST} to ${BEYOND - 1} is free: stop what listens there`,
  );
}
