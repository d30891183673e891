// Starts the api service, and ends it on SIGTERM or SIGINT.
import { killPoints, settingsOrExit } from '@tidemark/proto';
import { pino } from 'pino';
import { buildApp } from './app.ts';
import { readConfig } from './config.ts';

async function main(): Promise<void> {
  const config = settingsOrExit(() => readConfig(process.env));
  const app = await buildApp({
    databaseUrl: config.databaseUrl,
    queueUrl: config.queueUrl,
    fleetSecret: config.fleetSecret,
    tls: config.tls,
    https: config.https,
    webhookKeys: config.webhookKeys,
    needsToken: config.needsToken,
    bootstrapToken: config.bootstrapToken,
    metrics: { listen: config.metricsListen, runtime: true },
    pass: killPoints(config.killPoints, 'api'),
    // Written at once: a line still on its way when the process ends is late or lost.
    logger: {
      level: config.logLevel,
      base: { service: 'api' },
      stream: pino.destination({ dest: process.stdout.fd, sync: true }),
    },
  });
  for (const files of [config.tls, config.https]) {
    files?.keepFresh(({ renewed, message }) => app.log[renewed ? 'info' : 'error']({ message }, 'tls'));
  }
  let stopping = false;
  const stop = async (signal: string): Promise<void> => {
    if (stopping) return;
    stopping = true;
    app.log.info({ signal }, 'stopping');
    await app.close();
    app.log.info('stopped');
    process.exit(0);
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  // Each bound address is told first; the one line that others wait for comes last and holds the URL.
  const url = await app.listen({ ...config.listen, listenTextResolver: address => `bound ${address}` });
  app.log.info({ url }, 'listening');
}

main().catch(error => {
  pino({ base: { service: 'api' } }).fatal({ err: error }, 'not started');
  process.exitCode = 1;
});
