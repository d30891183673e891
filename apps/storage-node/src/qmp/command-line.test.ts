import { describe, expect, test } from 'vitest';
import { parseChardev } from './chardev.ts';
import { CommandLineError, parseCommandLine } from './command-line.ts';

describe('options', () => {
  test('keep their order, their text, and may stand with their value in one word', () => {
    expect(parseCommandLine(['--export', 'a', '--blockdev=b=c', '--export', 'd', '--daemonize'])).toEqual([
      { name: 'export', value: 'a', text: '--export a' },
      { name: 'blockdev', value: 'b=c', text: '--blockdev=b=c' },
      { name: 'export', value: 'd', text: '--export d' },
      { name: 'daemonize', value: '', text: '--daemonize' },
    ]);
  });

  test('may be cut short, and letters be put together', () => {
    expect(parseCommandLine(['--bl', 'x', '-hV', '--', '--rest']).map(({ name }) => name)).toEqual([
      'blockdev',
      'help',
      'version',
    ]);
  });

  const refusals: [args: string[], message: string][] = [
    [['--bogus'], "unrecognized option '--bogus'"],
    [['--'.concat('=x')], "unrecognized option '--'"],
    [['extra'], 'extra: Unexpected argument'],
    [['--p'], "option '--pidfile' requires an argument"],
    [['--help=1'], "option '--help' doesn't allow an argument"],
    [['-x'], "invalid option -- 'x'"],
  ];
  test.each(refusals)('%j is refused', (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(new CommandLineError(message));
  });
});

describe('chardev', () => {
  test('is a Unix socket to listen on, by path or by descriptor', () => {
    expect(parseChardev('socket,id=m,path=/a,,b,server=on,wait=off')).toEqual({
      id: 'm',
      listen: { path: '/a,b' },
    });
    expect(parseChardev('socket,id=m,path=/a,server,nowait').listen).toEqual({ path: '/a' });
    expect(parseChardev('socket,id=m,fd=7,server=on').listen).toEqual({ fd: 7 });
  });

  const refusals: [text: string, message: string][] = [
    ['socket', 'chardev: no id specified'],
    ['', 'chardev: no id specified'],
    ['id=a', 'chardev: "a" missing backend'],
    ['foo,id=a', "'foo' is not a valid char driver name"],
    ['socket,id=1a,path=x,server=on', "Parameter 'id' expects an identifier"],
    ['socket,id=a,path=x,server=maybe', "Parameter 'server' expects 'on' or 'off'"],
    ['socket,id=a,path=x,foo=1', "Invalid parameter 'foo'"],
    ['socket,id=a,path=x,fd=3', "None or one of 'path', 'fd' or 'host' option required."],
    ['socket,id=a,host=127.0.0.1,port=0,server=on', "only Unix sockets are offered: give 'path' or 'fd'"],
  ];
  test.each(refusals)('%j is refused', (text, message) => {
    expect(() => parseChardev(text)).toThrow(message);
  });
});
