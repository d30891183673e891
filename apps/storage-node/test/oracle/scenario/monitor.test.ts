// The monitor itself: what it makes of input that is wrong, and of clients that come and go.
import { mkdir } from 'node:fs/promises';
import { expect } from 'vitest';
import { Daemon } from '../daemon.ts';
import { RawMonitor } from '../raw-monitor.ts';
import { different, ours, scenario } from '../scenario.ts';

scenario('MON-01', 'unknown commands and arguments get errors and leave the connection usable', async s => {
  expect((await s.refused('no-such-command')).class).toBe('CommandNotFound');
  await s.refused('query-version', { x: 1 });
  await s.ask('query-version');
});

scenario('MON-02', 'before negotiation nothing else is done', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.exchange('{"execute":"query-jobs"}');
  await monitor.exchange('{"execute":"no-such-command","id":5}');
  await monitor.exchange('{"execute":"qmp_capabilities","arguments":{"enable":["x"]}}');
  await monitor.exchange('{"execute":"qmp_capabilities","arguments":{"enable":[1]}}');
  await monitor.exchange('{"execute":"qmp_capabilities","arguments":{"x":1}}');
  await monitor.exchange('{"execute":"qmp_capabilities"}');
  await monitor.exchange('{"execute":"qmp_capabilities"}');
  await monitor.exchange('{"execute":"query-jobs"}');
  await monitor.quit();
});

const MALFORMED: readonly (string | Buffer)[] = [
  ...['[]', '1 ', '"x"', 'null ', '{} ', '} ', '] ', '[} ', '{] ', '[[}]] ', '{"a":1] ', '[1,2} '],
  ...['{"execute": foo}', '{"execute" "x"}', '{"execute":"x",}', '{1:2}', '{,}', '{:}', '{"a":1 "b":2}'],
  ...['[1 2]', '[1,]', '{"a":1,"a":2}', '{tru:1}', '@ 1 {}', '@ 1\n2 ', "{'execute':'query-jobs'}"],
  ...['{"execute":"a\nb"}', '{"execute":"a\u0001b"}', '"abc', '"\\q"', '"\\u12xyz"', '"\\ud800"'],
  ...['"\\udc00x"', '"\\ud83d\\ude00"', '"\\uffff"', '"\\u0000"', '01 ', '+1 ', '-', '- ', '1. ', '.5 '],
  ...['1e ', '1e+ ', '0x1 ', '%d ', '//x\n', 'nulltrue ', '1 2 3 ', '\ufeff{}', '\u00a0{}'],
  Buffer.from('"\xff"', 'latin1'),
  Buffer.from('"\xe2\x82"', 'latin1'),
  Buffer.from('\xfe\xff', 'latin1'),
  Buffer.from('{"execute":"\xed\xa0\x80"}', 'latin1'),
];

scenario('MON-03', 'input that is no JSON gets an error, and the next command is answered', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  for (const input of MALFORMED) await monitor.exchange(input);
  expect(await monitor.exchange('{"execute":"query-jobs"}')).toMatchObject([{ return: [] }, {}]);
  await monitor.quit();
});

scenario('MON-04', 'a request has the members that it must have, and no others', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  for (const request of [
    { execute: 1 },
    { execute: null },
    { id: 1 },
    { execute: 'query-jobs', foo: 1 },
    { execute: 'query-jobs', arguments: [] },
    { execute: 'query-jobs', arguments: null },
    { execute: 'query-jobs', arguments: {} },
    { 'exec-oob': 'query-jobs' },
    { execute: 'query-jobs', 'exec-oob': 'query-jobs' },
    { id: 3, execute: 'no-such-command', bar: 1 },
  ]) {
    await monitor.exchange(JSON.stringify(request));
  }
  await monitor.quit();
});

scenario('MON-05', 'an id comes back as it came, with answers and with errors', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  const ids = [
    '1',
    '-1',
    '1.5',
    'null',
    'true',
    '"é€😀"',
    '""',
    '[1,{"a":[]}]',
    '{"__proto__":1,"x":"\\u00e9"}',
  ];
  const long = ['9007199254740993', '18446744073709551615', '-9223372036854775808'];
  for (const id of [...ids, ...long]) {
    await monitor.exchange(`{"id":${id},"execute":"query-jobs"}`);
    await monitor.exchange(`{"id":${id},"execute":"no-such-command"}`);
    await monitor.exchange(`{"execute":"query-jobs","arguments":{"x":1},"id":${id}}`);
  }
  await monitor.quit();
});

scenario('MON-15', 'a number with a fraction or an exponent is no integer, though it be whole', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  for (const number of ['1.0', '1e3', '-0.0', '1.5', '1e400', '4096.0']) {
    for (const member of ['granularity', 'node', 'disabled']) {
      const bitmap = `"node":"disk","name":"b","${member}":${number}`.replace(
        /"node":"disk",(.*"node")/,
        '$1',
      );
      await monitor.exchange(`{"execute":"block-dirty-bitmap-add","arguments":{${bitmap}}}`);
    }
    await monitor.exchange(`{"execute":"job-set-speed","arguments":{"id":"a","speed":${number}}}`);
    await monitor.exchange(`{"execute":"block-job-set-speed","arguments":{"device":"a","speed":${number}}}`);
  }
  for (const id of ['1.0', '[2e0, {"x": -3.0}]'])
    await monitor.exchange(`{"execute":"query-jobs","id":${id}}`);
  await monitor.exchange('{"execute":1.0}');
  await monitor.exchange('{"execute":"query-jobs","arguments":2.0}');
  await monitor.quit();
});

scenario('MON-06', 'commands out of band are understood, and no command here supports them', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.exchange('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}');
  for (const request of [
    { 'exec-oob': 'query-jobs', id: 1 },
    { 'exec-oob': 'qmp_capabilities' },
    { 'exec-oob': 'no-such-command' },
    { 'exec-oob': 1 },
    { execute: 'query-jobs', 'exec-oob': 'query-jobs' },
    { execute: 'query-jobs' },
  ]) {
    await monitor.exchange(JSON.stringify(request));
  }
  await monitor.quit();
});

scenario('MON-07', 'what is nested too deeply is refused', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  await monitor.exchange(`${'['.repeat(1024)}${']'.repeat(1024)}`);
  await monitor.exchange('['.repeat(1025));
  await monitor.exchange('{"a":'.repeat(1025));
  await monitor.exchange('{"execute":"query-jobs"}');
  await monitor.quit();
});

scenario('MON-08', 'many commands in one write are answered in their order', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  const commands = Array.from({ length: 40 }, (_, id) => {
    const add = { driver: 'null-co', 'node-name': `n${id >> 1}` };
    return JSON.stringify({ execute: 'blockdev-add', arguments: add, id });
  });
  const replies = await monitor.exchange(commands.join(''));
  expect(replies.slice(0, -1).map(({ id }) => id)).toEqual(commands.map((_, id) => id));
  await monitor.quit();
});

scenario('MON-09', 'the next client finds nothing of what the last one left unsaid', async s => {
  const first = await RawMonitor.replace(s);
  await first.negotiate();
  first.send('{"execute":"query-jobs","arguments":{"x":"');
  await first.close();
  const second = await RawMonitor.open(s, s.daemon.socket);
  await second.exchange('{"execute":"query-jobs"}');
  await second.negotiate();
  await second.exchange('{"execute":"query-jobs"}');
  await second.quit();
});

scenario('MON-10', 'every monitor hears of every event, once it has negotiated', async s => {
  const folder = s.path('second');
  await mkdir(folder);
  const socket = `${folder}/other.sock`;
  const args = ['--chardev', `socket,path=${socket},server=on,wait=off,id=two`, '--monitor', 'two'];
  const daemon = await Daemon.start({ side: s.side, folder, args });
  try {
    const other = await RawMonitor.open(s, socket);
    const silent = await other.exchange('{"execute":"query-jobs"}');
    expect(silent).toMatchObject([{ error: { class: 'CommandNotFound' } }, {}]);
    await other.negotiate();
    await daemon.qmp.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 65536 });
    const addr = { type: 'unix', data: { path: `${folder}/nbd.sock` } };
    await daemon.qmp.execute('nbd-server-start', { addr });
    await daemon.qmp.execute('block-export-add', { type: 'nbd', id: 'e', 'node-name': 'n' });
    await daemon.qmp.execute('nbd-server-stop');
    const heard = await other.exchange('{"execute":"query-block-exports"}');
    expect(heard).toMatchObject([{ event: 'BLOCK_EXPORT_DELETED' }, { return: [] }, {}]);
    s.note('heard by the first', daemon.qmp.events);
    await other.close();
    await daemon.quit();
  } finally {
    await daemon.kill();
  }
});

scenario('MON-11', 'a client that goes away while its command is at work does not stop it', async s => {
  await s.image('disk', { format: 'qcow2', size: '1M' });
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  const file = { driver: 'file', filename: s.path('disk') };
  const add = { driver: 'qcow2', 'node-name': 'disk', file };
  monitor.send(JSON.stringify({ execute: 'blockdev-add', arguments: add }));
  await new Promise(resolve => setTimeout(resolve, 300));
  await monitor.close();
  const next = await RawMonitor.open(s, s.daemon.socket);
  await next.negotiate();
  await next.exchange(JSON.stringify({ execute: 'blockdev-add', arguments: add }));
  await next.quit();
});

different(
  'MON-12',
  'a second client of one socket is served at once, not when the first has gone',
  '0026-monitors-for-several-clients',
  async s => {
    const second = s.daemon.connect().then(async client => {
      await client.execute('query-jobs');
      client.close();
      return true;
    });
    const timeout = new Promise<boolean>(resolve => setTimeout(() => resolve(false), 1500));
    s.note('served', await Promise.race([second, timeout]));
    await s.ok('quit');
    await second.catch(() => undefined);
  },
);

ours('MON-13', 'a token without an end is refused, and memory stays bounded', async s => {
  const monitor = await RawMonitor.replace(s);
  await monitor.negotiate();
  const [reply] = await monitor.exchange(`{"execute":"${'x'.repeat(9 * 1024 * 1024)}`);
  expect(reply).toMatchObject({ error: { desc: 'JSON token size limit exceeded' } });
  await monitor.quit();
});

interface SchemaInfo {
  readonly name: string;
  readonly 'meta-type': string;
  readonly 'arg-type'?: string;
  readonly members?: readonly { name: string; default?: null }[];
  readonly variants?: readonly { case: string; type: string }[];
}

/** Arguments that QEMU 7.2 does not know; records of decisions 0014, and the names that begin with `x-tidemark`. */
const OUR_ARGUMENTS = ['discard-source', 'on-cbw-error', 'cbw-timeout', 'min-cluster-size'];
const isOurs = (name: string) => name.startsWith('x-tidemark-') || OUR_ARGUMENTS.includes(name);
/** Of what has variants, one that both have is looked into. */
const VARIANTS = ['null-co', 'throttle-group', 'nbd'];

scenario(
  'MON-14',
  'commands have the arguments that they have in QEMU, and may be asked for them',
  async s => {
    const infos = await s.ask<SchemaInfo[]>('query-qmp-schema');
    const byName = new Map(infos.map(info => [info.name, info]));
    const commands = (await s.ask<{ name: string }[]>('query-commands')).map(({ name }) => name);
    for (const name of COMPARED) {
      expect(commands).toContain(name);
      const args = byName.get(byName.get(name)!['arg-type']!)!;
      const chosen = args.variants?.find(variant => VARIANTS.includes(variant.case));
      const more = chosen === undefined ? [] : byName.get(chosen.type)!.members!;
      const members = [...args.members!, ...more].filter(member => !isOurs(member.name));
      const told = members.map(member => `${member.name}${'default' in member ? '?' : ''}`).toSorted();
      s.note(`arguments of ${name}`, [...new Set(told)]);
    }
  },
);

const COMPARED = [
  ...['blockdev-add', 'blockdev-backup', 'blockdev-del', 'blockdev-reopen', 'block_resize'],
  ...['block-dirty-bitmap-add', 'block-dirty-bitmap-clear', 'block-dirty-bitmap-disable'],
  ...['block-dirty-bitmap-enable', 'block-dirty-bitmap-merge', 'block-dirty-bitmap-remove'],
  ...['x-debug-block-dirty-bitmap-sha256', 'transaction', 'block-export-add', 'block-export-del'],
  ...['nbd-server-add', 'nbd-server-remove', 'nbd-server-start', 'nbd-server-stop', 'query-block-exports'],
  ...['job-cancel', 'job-complete', 'job-dismiss', 'job-finalize', 'job-pause', 'job-resume', 'query-jobs'],
  ...['block-job-cancel', 'block-job-complete', 'block-job-dismiss', 'block-job-finalize', 'block-job-pause'],
  ...['block-job-resume', 'block-job-set-speed', 'query-block-jobs', 'query-named-block-nodes'],
  ...['object-add', 'object-del', 'qom-get', 'qom-set', 'qmp_capabilities', 'query-commands'],
  ...['query-qmp-schema', 'query-version', 'quit'],
];
