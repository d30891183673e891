// tidemark policy
import { setTimeout as sleep } from 'node:timers/promises';
import type { Query, Schema } from '@tidemark/client';
import { type Command, InvalidArgumentError } from 'commander';
import { FIRING_LOOK_MS } from '../limits.ts';
import { type Column, moment, momentIn, record, size, table, withMore } from '../output.ts';
import {
  at,
  Context,
  enabledQuery,
  parseCount,
  type Surroundings,
  withEnabled,
  withPage,
  withWait,
} from './context.ts';
import { repositoryNames, storageNodeNames } from './names.ts';
import { policyColumns, policyDetails } from './policy-columns.ts';
import {
  bodyOf,
  noGroups,
  type PolicyOptions,
  saysGroups,
  withPolicyChanges,
  withPolicyOptions,
} from './policy-options.ts';

type Firing = Schema<'Firing'>;
type Policy = Schema<'Policy'>;
type SimulatedFiring = Schema<'SimulatedFiring'>;

const PATH = '/v1/policies';
const ONE = `${PATH}/{policy}` as const;

const firingColumns: readonly Column<Firing>[] = [
  ['ID', firing => firing.id],
  ['DUE', firing => moment(firing.dueAt)],
  ['CAUSE', firing => firing.cause],
  ['STATE', firing => firing.state],
  ['MEMBERS', ({ members }) => membersText(members)],
  ['FOLLOWED BY', ({ followUps }) => followUps.map(({ kind }) => kind).join(', ') || null],
  ['REASON', firing => firing.reason],
];

const memberColumns: readonly Column<Schema<'FiringMember'>>[] = [
  ['VOLUME', member => member.volume],
  ['KIND', member => member.kind],
  ['STATE', member => member.state],
  ['RUN', member => member.runId],
  ['EXPECTED', member => size(member.estimateBytes)],
  ['REASON', member => member.reason],
];

function membersText(members: Firing['members']): string | null {
  const some = Object.entries(members).filter(([, count]) => count > 0);
  return some.map(([state, count]) => `${count} ${state}`).join(', ') || null;
}

/** Of its repositories, and of the storage nodes of its hooks, by id. */
async function namesIn(context: Context, { repositoryId: id, replicaIds, grouped }: Policy) {
  const places = [id, ...replicaIds].map(repositoryId => ({ repositoryId }));
  const commands = (grouped?.hooks ?? []).filter(hook => 'command' in hook);
  return new Map([
    ...(await repositoryNames(context, places)),
    ...(await storageNodeNames(
      context,
      commands.map(({ storageNode }) => storageNode),
    )),
  ]);
}

export function policyCommands(program: Command, around: Surroundings): void {
  const group = program.command('policy').description('what is backed up when, and for how long it is kept');
  const show = async (command: Command, ask: (context: Context) => Promise<Policy>) => {
    const context = new Context(command, around);
    const policy = await ask(context);
    context.output.show(policy, policyDetails(await namesIn(context, policy)));
  };

  withPolicyOptions(group.command('create <name>').description('make a policy, switched off'))
    .option('--enable', 'switch it on at once')
    .action((name, { enable: enabled, ...options }: PolicyOptions & { enable?: true }, command) =>
      show(command, ({ client }) => {
        if (options.cron === undefined) {
          const text = "Say when it is due: --cron RULE, such as '30 2 * * *' or @hourly.";
          throw new InvalidArgumentError(text);
        }
        if (saysGroups(options)) throw noGroups();
        // Where something else is missing, such as a repository, the API says so.
        const body = { name, enabled, ...bodyOf(options) } as Schema<'CreatePolicy'>;
        return client.post(PATH, { body });
      }),
    );
  withEnabled(withPage(group.command('list').description('list policies')))
    .option('--name <text>', 'only policies whose name holds this')
    .option('--volume <ref>', 'only policies that choose this volume')
    .option('--repository <ref>', 'only policies that write to this repository, or have replicas made in it')
    .action(async (options, command) => {
      const { client, output } = new Context(command, around);
      const query: Query<typeof PATH> = enabledQuery(options);
      output.list(await client.list(PATH, { params: { query } }), policyColumns);
    });
  group
    .command('show <policy>')
    .description('show a policy')
    .action((ref, _options, command) => show(command, ({ client }) => client.get(ONE, at({ policy: ref }))));
  withPolicyChanges(group.command('update <policy>').description('change what is given'))
    .option('--name <name>', 'another name')
    .action((ref, { name, ...options }: PolicyOptions & { name?: string }, command) =>
      show(command, async ({ client }) => {
        const path = at({ policy: ref });
        if (saysGroups(options) && (await client.get(ONE, path)).grouped === null) throw noGroups();
        return client.patch(ONE, { ...path, body: { name, ...bodyOf(options) } });
      }),
    );
  for (const [word, what] of [
    ['enable', 'switch a policy on: due from now on'],
    ['disable', 'switch a policy off: what waits is left out'],
  ] as const) {
    group
      .command(`${word} <policy>`)
      .description(what)
      .action((ref, _options, command) =>
        show(command, ({ client }) => client.post(`${ONE}/${word}`, at({ policy: ref }))),
      );
  }
  group
    .command('delete <policy>')
    .description('delete a policy; its backups stay')
    .action(async (ref, _options, command) => {
      const { client, output } = new Context(command, around);
      output.show(await client.delete(ONE, at({ policy: ref })), [
        ['NAME', policy => policy.name],
        ['STATE', () => 'deleted; its backups stay'],
      ]);
    });
  simulateCommand(group, around);
  firingCommands(group, around);
}

function simulateCommand(group: Command, around: Surroundings): void {
  withPage(
    group
      .command('simulate <policy>')
      .description("what it would do over the next days, by the policy's own clocks"),
  )
    .option('--days <count>', 'from now on (default: 30)', parseCount)
    .option('--volume <ref>', 'only this volume, with all that is kept of it')
    .action(async (ref, { days, volume, limit, cursor }, command) => {
      const { client, output } = new Context(command, around);
      const items: SimulatedFiring[] = [];
      let next: string | null = cursor ?? null;
      do {
        const query = { days, volume, limit, cursor: next ?? undefined };
        const params = { path: { policy: ref }, query };
        const page: Schema<'Simulation'> = await client.post(`${ONE}/simulate`, { params });
        items.push(...page.items);
        next = page.nextCursor;
      } while (next !== null && limit === undefined);
      const answer = { items, nextCursor: next };
      if (output.isJson) return output.print(answer, () => '');
      const { schedule } = await client.get(ONE, at({ policy: ref }));
      output.print(answer, () => withMore(answer, simulationText(items, schedule.timeZone)));
    });
}

interface Line {
  startAt: string;
  volume: SimulatedFiring['volumes'][number];
}

/** `local`: a moment by the policy's own clocks, as its schedule names it. */
const lineColumns = (local: (iso: string) => string | null): readonly Column<Line>[] => [
  ['START', ({ startAt }) => local(startAt)],
  ['VOLUME', ({ volume }) => volume.volume],
  ['KIND', ({ volume }) => volume.kind],
  ['KEPT', ({ volume }) => volume.kept],
  ['PRUNED', ({ volume }) => volume.pruned.map(one => prunedText(one, local)).join(', ') || null],
];

function prunedText(
  { pointInTime, awaitedBy }: SimulatedFiring['volumes'][number]['pruned'][number],
  local: (iso: string) => string | null,
): string {
  return `${local(pointInTime)}${awaitedBy.length === 0 ? '' : ' (once it is copied)'}`;
}

function simulationText(items: readonly SimulatedFiring[], timeZone: string): string {
  const lines = items.flatMap(({ startAt, volumes }) => volumes.map(volume => ({ startAt, volume })));
  if (lines.length === 0) return 'none';
  const local = momentIn(timeZone);
  const last = items.at(-1)!.volumes;
  const kept = last.flatMap(({ volume, keeps }) =>
    (keeps ?? []).map(({ pointInTime, reasons }) => `${volume} ${local(pointInTime)}: ${reasons.join(', ')}`),
  );
  const end = kept.length === 0 ? '' : `\n\nkept at the end:\n${kept.join('\n')}`;
  return `${table(lines, lineColumns(local))}${end}`;
}

type FiringQuery = Query<`${typeof ONE}/firings`>;

function firingCommands(group: Command, around: Surroundings): void {
  const follow = async (context: Context, policy: string, firing: Firing, wait: boolean) => {
    let current = firing;
    while (wait && current.finishedAt === null) {
      await sleep(FIRING_LOOK_MS);
      current = await context.client.get(`${ONE}/firings/{firing}`, at({ policy, firing: firing.id }));
    }
    context.output.print(current, () => record(current, firingColumns));
  };
  withWait(
    group.command('fire <policy>').description('fire a policy now, whatever its schedule says'),
  ).action(async (ref, { wait }: { wait: boolean }, command) => {
    const context = new Context(command, around);
    await follow(context, ref, await context.client.post(`${ONE}/fire`, at({ policy: ref })), wait);
  });
  withWait(group.command('retry <policy> <firing>').description('retry what failed or did not start')).action(
    async (ref, firing, { wait }: { wait: boolean }, command) => {
      const context = new Context(command, around);
      const path = at({ policy: ref, firing });
      await follow(context, ref, await context.client.post(`${ONE}/firings/{firing}/retry`, path), wait);
    },
  );
  withPage(group.command('runs <policy> [firing]').description('list firings, or the volumes of one')).action(
    async (ref: string, firing: string | undefined, query: FiringQuery, command: Command) => {
      const { client, output } = new Context(command, around);
      if (firing === undefined) {
        const params = { path: { policy: ref }, query };
        output.list(await client.list(`${ONE}/firings`, { params }), firingColumns);
      } else {
        const params = { path: { policy: ref, firing }, query };
        output.list(await client.list(`${ONE}/firings/{firing}/members`, { params }), memberColumns);
      }
    },
  );
}
