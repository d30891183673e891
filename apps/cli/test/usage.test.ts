// Goal: what cannot be meant is told by the names of the command's own options, before anything is asked. Method: an
// address where nobody answers, so that whatever was asked would end with another exit status.
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { parseMoment } from '../src/commands/context.ts';
import { runProgram } from '../src/program.ts';

async function tidemark(...args: string[]) {
  const out = new PassThrough();
  const err = Object.assign(new PassThrough(), { isTTY: false });
  const exit = await runProgram(args, { url: 'http://127.0.0.1:9', terminal: { out, err } });
  return { exit, out: String(out.read() ?? ''), err: String(err.read() ?? '') };
}

const POLICY = ['policy', 'create', 'p', '--repository', 'vault'];

test.each([
  [POLICY, /^error: Say when it is due: --cron RULE, such as '30 2 \* \* \*' or @hourly\.$/m],
  [[...POLICY, '--cron', '@hourly', '--kind', 'ful'], /'--kind <kind>'.* full, incremental, differential/],
  [[...POLICY, '--cron', '@hourly', '--missed', 'x'], /'--missed <rule>'.* skip, once, all/],
  [['policy', 'update', 'p', '--kind', 'ful'], /'--kind <kind>'.* full, incremental, differential/],
  [['group', 'create', 'g'], /Say which volumes: --volume REF.*, or --selector/],
  [['group', 'list', '--state', 'good'], /'--state <state>'.* ready, incomplete/],
  [['group', 'list', '--kind', 'good'], /'--kind <kind>'.* checkpoint, backup/],
  [['prune', '--repository', 'vault'], /Say what is kept, such as --keep-last 3/],
  [['prune', '--repository', 'vault', '--keep-last', '0'], /Say what is kept, such as --keep-last 3/],
  [['webhook', 'list', '--state', 'good'], /'--state <state>'.* enabled, disabled, suspended/],
  [['webhook', 'deliveries', 'w', '--state', 'good'], /'--state <state>'.* pending, delivered, dead/],
  [['webhook', 'set', 'w', '--enable', '--disable'], /'--enable' cannot be used with option '--disable'/],
  [['backup', 'pin', 'b', '--until', '2027-02-31'], /Give a day like 2027-01-31/],
  [['event', 'list', '--since', '2027-01-31T08:00'], /Give a day like 2027-01-31/],
])('%j is told with what to give', async (args, words) => {
  const { exit, out, err } = await tidemark(...args);
  expect({ exit, out }).toEqual({ exit: 2, out: '' });
  expect(err).toMatch(words);
});

test.each([
  ['2027-01-31', '2027-01-31T00:00:00.000Z'],
  ['2028-02-29', '2028-02-29T00:00:00.000Z'],
  ['2027-01-31T08:00Z', '2027-01-31T08:00:00.000Z'],
  ['2027-01-31T08:00:00.250Z', '2027-01-31T08:00:00.250Z'],
  // As lists and simulations print them.
  ['2027-01-31 08:00:00Z', '2027-01-31T08:00:00.000Z'],
  ['2026-10-25 02:30:00+01:00', '2026-10-25T01:30:00.000Z'],
])('the moment %j is %s, whatever the time zone of the machine', (text, moment) => {
  expect(parseMoment(text)).toBe(moment);
});

test.each([
  ...['2027-02-29', '2027-13-01', '2027-00-10', '2027-01-32', '2027-04-31T08:00:00Z', '2027-1-1', 'soon', ''],
  ...['2027-01-31T24:30:00Z', '2027-01-31T08:60:00Z', '2027-01-31T08:00:00', '2027-01-31 08', '2027-01-31Z'],
])('%j is no moment', text => {
  expect(() => parseMoment(text)).toThrow(/Give a day like 2027-01-31/);
});
