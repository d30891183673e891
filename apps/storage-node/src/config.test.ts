// Goal: one look at the message tells everything that is wrong with the settings. Method: good, bad and
// missing variables.
import { SettingsError } from '@tidemark/proto';
import { expect, test } from 'vitest';
import { parseConfig } from './config.ts';

test('defaults stand where nothing is said', () => {
  const config = parseConfig({ TIDEMARK_NODE_NAME: 'alpha', TIDEMARK_STATE_DIR: '/var/lib/tidemark' });
  expect(config).toEqual({
    nodeName: 'alpha',
    stateDir: '/var/lib/tidemark',
    controlListen: { host: '127.0.0.1', port: 7411 },
    fleetSecret: undefined,
    controlAdvertise: undefined,
    join: undefined,
    labels: {},
    nbdListen: { host: '127.0.0.1', port: 10809 },
    nbdAdvertise: undefined,
    healthListen: undefined,
    qmpListen: undefined,
    scratchLimitBytes: 0,
    targetReconnectMs: 15_000,
    hooks: new Map(),
    killPoints: undefined,
    logLevel: 'info',
  });
  expect(Object.isFrozen(config)).toBe(true);
});

test('all faults are reported together', () => {
  const faulty = {
    TIDEMARK_CONTROL_LISTEN: 'nonsense',
    TIDEMARK_NBD_LISTEN: '127.0.0.1:70000',
    TIDEMARK_QMP_LISTEN: 'qmp.sock',
  };
  expect(() => parseConfig(faulty)).toThrow(SettingsError);
  for (const fault of [
    /TIDEMARK_NODE_NAME is not set/,
    /TIDEMARK_STATE_DIR is not set/,
    /TIDEMARK_CONTROL_LISTEN must be host:port.*'nonsense'/,
    /TIDEMARK_NBD_LISTEN must be .*'127.0.0.1:70000'/,
    /TIDEMARK_QMP_LISTEN must be the absolute path/,
  ]) {
    expect(() => parseConfig(faulty)).toThrow(fault);
  }
});

test('hooks are programs by name, and what is no such list is refused', () => {
  const base = { TIDEMARK_NODE_NAME: 'alpha', TIDEMARK_STATE_DIR: 's' };
  const hooks = (text: string) => parseConfig({ ...base, TIDEMARK_HOOKS: text }).hooks;
  expect(hooks('')).toEqual(new Map());
  expect(hooks('db=/usr/local/bin/freeze db, fs=/bin/fs,')).toEqual(
    new Map([
      ['db', '/usr/local/bin/freeze db'],
      ['fs', '/bin/fs'],
    ]),
  );
  expect(() => hooks('db=bin/relative')).toThrow(/TIDEMARK_HOOKS names hooks as .*'db=bin\/relative'/);
  expect(() => hooks('/bin/fs')).toThrow(/TIDEMARK_HOOKS/);
  expect(() => hooks('db=/a,db=/b')).toThrow(/names hook 'db' twice/);
});

test('a wildcard NBD address needs one that others can reach', () => {
  const base = { TIDEMARK_NODE_NAME: 'alpha', TIDEMARK_STATE_DIR: 's', TIDEMARK_NBD_LISTEN: '0.0.0.0:10809' };
  expect(() => parseConfig(base)).toThrow(/TIDEMARK_NBD_ADVERTISE/);
  expect(parseConfig({ ...base, TIDEMARK_NBD_ADVERTISE: '[fd00::1]:10809' }).nbdAdvertise).toEqual({
    host: 'fd00::1',
    port: 10809,
  });
});

test('a control address that others reach needs a secret', () => {
  const base = { TIDEMARK_NODE_NAME: 'alpha', TIDEMARK_STATE_DIR: 's' };
  for (const address of ['0.0.0.0:7411', '[::]:7411', '10.0.0.7:7411', 'alpha.example:7411']) {
    const open = { ...base, TIDEMARK_CONTROL_LISTEN: address };
    expect(() => parseConfig(open), address).toThrow(/TIDEMARK_FLEET_SECRET is needed/);
    const fleetSecret = 'x'.repeat(40);
    expect(parseConfig({ ...open, TIDEMARK_FLEET_SECRET: fleetSecret })).toMatchObject({ fleetSecret });
  }
});
