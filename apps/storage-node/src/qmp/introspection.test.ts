// Goal: clients that look before they ask find what is there. Method: the whole table, and a walk through it.
import { expect, test } from 'vitest';
import { qmpCommands } from './commands/index.ts';
import { describeCommands, type SchemaInfo } from './introspection.ts';

const infos = describeCommands(qmpCommands.values());
const byName = new Map(infos.map(info => [info.name, info]));

function argumentsOf(command: string): SchemaInfo {
  return byName.get(String(byName.get(command)!['arg-type']))!;
}

function members(info: SchemaInfo): Record<string, { type: string; default?: null }> {
  const all = info.members as { name: string; type: string }[];
  return Object.fromEntries(all.map(({ name, ...more }) => [name, more]));
}

test('every command is there, and every type that is named', () => {
  expect(infos.filter(info => info['meta-type'] === 'command').map(({ name }) => name)).toEqual([
    ...qmpCommands.keys(),
  ]);
  const named = JSON.stringify(infos).matchAll(/"(?:type|arg-type|ret-type|element-type)":"([^"]*)"/g);
  for (const [, name] of named) expect(byName.has(name!), `type ${name}`).toBe(true);
});

test('members have their types, and what may be left out says so', () => {
  const add = members(argumentsOf('block-dirty-bitmap-add'));
  expect(add.node).toEqual({ type: 'str' });
  expect(add.granularity).toEqual({ default: null, type: 'int' });
  expect(add.persistent).toEqual({ default: null, type: 'bool' });
});

test('drivers are the variants of blockdev-add', () => {
  const options = argumentsOf('blockdev-add');
  expect(options.tag).toBe('driver');
  const variants = options.variants as { case: string; type: string }[];
  const names = variants.map(variant => variant.case);
  expect(names).toEqual(expect.arrayContaining(['file', 'raw', 'qcow2', 'nbd', 'throttle']));
  const raw = variants.find(variant => variant.case === 'raw')!;
  const file = byName.get(members(byName.get(raw.type)!).file!.type)!;
  expect(file['meta-type']).toBe('alternate');
});
