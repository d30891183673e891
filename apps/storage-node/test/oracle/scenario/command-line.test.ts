// The command line: what each daemon makes of the same words, and how it ends. More words are tried, without
// a process, beside the code that reads them.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { programOf } from '../daemon.ts';
import { different, scenario } from '../scenario.ts';
import type { Session } from '../session.ts';

/** A daemon that lives longer than this although it should have refused to start. */
const REFUSAL_TIMEOUT_MS = 20_000;

interface Outcome {
  readonly code: number | null;
  readonly complaint: string;
}

/** How a daemon is ended that has accepted everything. */
interface Ending {
  readonly when: Promise<unknown>;
  readonly signal: NodeJS.Signals;
}

async function run(s: Session, args: readonly string[], ending?: Ending): Promise<Outcome> {
  const [program, first] = programOf(s.side);
  const child = spawn(program, [...first, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), REFUSAL_TIMEOUT_MS);
  void ending?.when.finally(() => child.kill(ending.signal));
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  // The first line is the message; what follows are hints, and each has its own.
  const line = complaint.split('\n', 1)[0]!;
  return { code, complaint: line.replace(/^[a-z-]*storage-daemon: /, '') };
}

/** The daemon has written its process id into it, which it does when clients may come. */
function started(s: Session): Promise<void> {
  const isWritten = () =>
    readFile(s.path('pid'), 'utf8').then(
      text => /^[0-9]{2,}\n$/.test(text),
      () => false,
    );
  return s.until('the pid file', isWritten);
}

/** Traced. */
async function tryLines(s: Session, lines: readonly (readonly string[])[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const args of lines) {
    const outcome = await run(s, args);
    outcomes.push(outcome);
    s.note(`command line ${args.join(' ')}`, outcome);
  }
  return outcomes;
}

const isRefused = ({ code }: Outcome) => code === 1;

scenario('CL-01', 'options that are none, or lack their value', async s => {
  const outcomes = await tryLines(s, [
    ['--bogus'],
    ['extra'],
    ['--blockdev'],
    ['--help=1'],
    ['--bloc=null-co'],
    ['--p'],
  ]);
  expect(outcomes.every(isRefused)).toBe(true);
});

scenario('CL-02', 'block nodes as key=value', async s => {
  const outcomes = await tryLines(
    s,
    [
      'driver=file',
      'null-co',
      'null-co,node-name=a,foo=1',
      'node-name=a',
      'null-co,node-name=a,size=1k,read-only=maybe',
      'null-co,node-name=a,size=abc',
      'null-co,node-name=a,,b',
      'null-co,node-name',
      'null-co,node-name=a,cache.direct=on,cache.direct.x=1',
      'raw,node-name=a,file.driver=null-co,file.foo=1',
      'raw,node-name=a,file=',
      'help',
      'a b=c',
      '',
    ].map(text => ['--blockdev', text]),
  );
  expect(outcomes.every(isRefused)).toBe(true);
});

scenario('CL-03', 'block nodes as JSON', async s => {
  const outcomes = await tryLines(
    s,
    [
      '{"driver":"null-co","node-name":"a","size":"x"}',
      '{"driver":"null-co"',
      '{"driver":"null-co","node-name":"a"} x',
      ' {"driver":"null-co","node-name":"a"}',
    ].map(text => ['--blockdev', text]),
  );
  expect(outcomes.every(isRefused)).toBe(true);
});

scenario('CL-04', 'monitors and where they listen', async s => {
  const socket = `socket,id=a,path=${s.path('x.sock')},server=on,wait=off`;
  const outcomes = await tryLines(s, [
    ['--chardev', 'socket'],
    ['--chardev', 'foo,id=a'],
    ['--chardev', `socket,id=a,path=${s.path('none/x')},server=on,wait=off`],
    ['--chardev', 'socket,id=a,path=x,server=maybe'],
    ['--chardev', 'socket,id=1a,path=x,server=on'],
    ['--chardev', `${socket},foo=1`],
    ['--chardev', 'socket,id=a,path=x,fd=3'],
    ['--monitor', 'nope'],
    ['--monitor', 'x,pretty=maybe'],
    ['--chardev', socket, '--monitor', 'a,mode=readline'],
    ['--chardev', socket, '--monitor', 'a', '--monitor', 'a'],
  ]);
  expect(outcomes.every(isRefused)).toBe(true);
});

scenario('CL-05', 'servers, exports and objects', async s => {
  const server = ['--nbd-server', `addr.type=unix,addr.path=${s.path('nbd.sock')}`];
  const node = ['--blockdev', 'null-co,node-name=n'];
  const outcomes = await tryLines(s, [
    ['--nbd-server', 'addr.type=unix'],
    ['--nbd-server', `addr.type=unix,addr.path=${s.path('none/x')}`],
    ['--nbd-server', 'addr.type=inet,addr.host=127.0.0.1,addr.port=abc'],
    ['--nbd-server', 'addr.type=inet,addr.host=127.0.0.1,addr.port=0,max-connections=-1'],
    [...server, ...server],
    ['--export', 'nbd,id=a,node-name=n'],
    ['--export', 'zzz,id=a,node-name=n'],
    [...node, '--export', 'nbd,id=a,node-name=n'],
    ['--export', 'nbd,id=a,node-name=n', ...node, ...server],
    [...node, ...server, '--export', 'nbd,id=e,node-name=n,bitmaps.0=x'],
    [...node, ...server, '--export', 'nbd,id=e,node-name=n,bitmap=x'],
    [...node, ...server, '--export', 'nbd,id=e,node-name=n,bitmaps.1=x'],
    ['--object', 'throttle-group'],
    ['--object', 'foo,id=a'],
    ['--object', 'throttle-group,id=a,limits.iops-total=abc'],
    ['--object', 'throttle-group,id=a', '--object', 'throttle-group,id=a'],
    ['--object', '{"qom-type":"throttle-group","id":"a","limits":{"iops-total":"5"}}'],
    ['--pidfile', s.path('none/pid')],
  ]);
  expect(outcomes.every(isRefused)).toBe(true);
});

scenario('CL-06', 'what is right starts, and each signal ends it in order', async s => {
  await s.image('disk', { format: 'qcow2', size: '1M' });
  const args = [
    ...['--object', 'throttle-group,id=t,limits.iops-total=100'],
    ...['--blockdev', `qcow2,node-name=q,file.driver=file,file.filename=${s.path('disk')},`],
    ...['--blockdev', '{"driver":"throttle","node-name":"slow","throttle-group":"t","file":"q"}'],
    ...['--nbd-server', `addr.type=unix,addr.path=${s.path('nbd.sock')},max-connections=0x10`],
    ...['--export', 'type=nbd,id=e,node-name=slow,name=disk,writable=yes,description=a,,b'],
    ...['--chardev', `socket,id=a,path=${s.path('x.sock')},server=on,wait=off`],
    ...['--monitor', 'a,id=mon,pretty=on', '--pidfile', s.path('pid')],
  ];
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    const looked = started(s).then(async () => {
      const uri = `nbd+unix:///disk?socket=${s.path('nbd.sock')}`;
      const { stdout } = await s.peek('nbdinfo', '--json', uri);
      s.note('export', JSON.parse(stdout).exports[0]);
    });
    const outcome = await run(s, args, { when: looked, signal });
    await looked;
    expect(outcome.code).toBe(0);
    s.note(signal, outcome);
    await expect(readFile(s.path('pid'))).rejects.toThrow();
  }
  expect((await s.tool('qemu-img', 'check', '-q', s.path('disk'))).code).toBe(0);
});

scenario('CL-07', 'an old pid file and an old socket are taken over', async s => {
  await writeFile(s.path('pid'), '1\n');
  const socket = s.path('old.sock');
  const line = ['--nbd-server', `addr.type=unix,addr.path=${socket}`, '--pidfile', s.path('pid')];
  const killed = await run(s, line, { when: started(s), signal: 'SIGKILL' });
  expect(killed.code).toBeNull();
  await writeFile(s.path('pid'), '1\n');
  s.note('again', await run(s, line, { when: started(s), signal: 'SIGTERM' }));
});

different(
  'CL-08',
  'what is not offered here is refused by name',
  '0027-what-the-command-line-leaves-out',
  async s => {
    await tryLines(s, [['--chardev', `socket,id=a,path=${s.path('none')}`], ['-T'], ['--object', 'help']]);
  },
);
