// After a round: every file of the storage nodes has a reason to be there, no block node, job or open file is left of
// runs that have ended, and catalog and storage nodes tell of the same things.
import { readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient } from '../../../apps/storage-node/test/oracle/qmp-client.ts';
import { pidOf } from '../victims.ts';
import type { World } from '../world.ts';
import type { Findings } from './contents-check.ts';

/** Files of a storage node that are always allowed, relative to its state directory. */
const ALWAYS = [/^identity\.json$/, /^lock\.\d+$/, /^runs\/[^/]+\.json$/, /^groups\/[^/]+\.json$/];

const EXPORTS = 'exports.json';
const IN_PASSING_MS = 1_500;

interface Expected {
  readonly volumes: Map<string, { checkpoints: Set<string> }>;
  /** By repository: the states of its backups. */
  readonly repositories: Map<string, Map<string, string>>;
  readonly files: { has(name: string): boolean };
}

export async function checkLeftovers(world: World, findings: Findings): Promise<void> {
  for (const { name: node, stateDir } of world.stack.nodes) {
    const expected = await expectedOn(world, node);
    const files = await allFiles(stateDir);
    const odd = await lasting(async () =>
      (await allFiles(stateDir)).filter(file => !isExpected(file, expected)),
    );
    if (odd.length > 0) findings.faults.push(`${node}: left-over files ${odd.slice(0, 6).join(', ')}`);
    findings.faults.push(...(await keptExports(node, stateDir, files)));
    findings.faults.push(...missing(files, expected).map(file => `${node}: ${file} is missing`));
    findings.faults.push(...(await lasting(() => openFiles(world, node, stateDir))));
    findings.faults.push(...(await jobs(world, node)));
    findings.faults.push(...(await blockNodes(world, node)));
  }
}

/** Nothing is left for the reconciler to find. */
export async function checkDifferences(world: World, findings: Findings): Promise<void> {
  const { status } = await world.rest.call('POST', 'reconcile', {});
  if (status !== 202) return;
  await world.runsHaveEnded();
  for (const { kind, message } of await world.rest.list('differences?state=open')) {
    findings.faults.push(`the reconciler finds ${kind}: ${message}`);
  }
}

/** The storage node itself may be at work, storing a bitmap: what stays is left over. */
async function lasting(look: () => Promise<string[]>): Promise<string[]> {
  const found = await look();
  if (found.length === 0) return [];
  await delay(IN_PASSING_MS);
  const later = new Set(await look());
  return found.filter(one => later.has(one));
}

async function expectedOn(world: World, node: string): Promise<Expected> {
  const { id } = await world.rest.read(`storage-nodes/${node}`);
  const volumes = new Map<string, { checkpoints: Set<string> }>();
  for (const volume of await world.rest.list('volumes')) {
    if (volume.storageNodeId !== id) continue;
    const checkpoints = await world.rest.list(`volumes/${volume.id}/checkpoints`);
    volumes.set(volume.id, { checkpoints: new Set(checkpoints.map(checkpoint => checkpoint.id)) });
  }
  const repositories = new Map<string, Map<string, string>>();
  for (const repository of await world.rest.list('repositories')) {
    if (repository.storageNodeId !== id) continue;
    // Also those that are hidden: their images stand under others that are kept.
    const backups = await world.query<{ id: string; state: string }>(
      `SELECT id, state FROM backup WHERE repository_id = '${repository.id}'`,
    );
    repositories.set(repository.id, new Map(backups.map(backup => [backup.id, backup.state])));
  }
  return { volumes, repositories, files: world.restoredFiles.get(node)! };
}

function isExpected(file: string, { volumes, repositories, files }: Expected): boolean {
  if (ALWAYS.some(allowed => allowed.test(file))) return true;
  const [folder, id = '', ...rest] = file.split('/');
  const name = rest.join('/');
  if (folder === 'restores') return files.has(id);
  const volume = volumes.get(id);
  if (folder === 'volumes' && volume !== undefined) {
    if (name === 'volume.json' || name === 'intents' || /^disk\.(raw|qcow2)$/.test(name)) return true;
    return name.startsWith('bitmaps/') && volume.checkpoints.has(name.slice('bitmaps/'.length));
  }
  const backups = repositories.get(id);
  if (folder === 'repositories' && backups !== undefined) {
    if (name === 'repository.json' || name === EXPORTS) return true;
    const backup = /^backups\/([^./]+)\.(json|qcow2|sums)$/.exec(name)?.[1];
    return backup !== undefined && backups.has(backup);
  }
  return false;
}

/** Exports that outlive restarts, for volumes that read from them: those that are left have pulled all. */
async function keptExports(node: string, stateDir: string, files: readonly string[]): Promise<string[]> {
  const lists = files.filter(file => file.endsWith(`/${EXPORTS}`));
  const kept = await Promise.all(
    lists.map(async file => JSON.parse(await readFile(join(stateDir, file), 'utf8')).exports.length),
  );
  return lists.flatMap((file, index) =>
    kept[index] === 0 ? [] : [`${node}: ${file} keeps ${kept[index]} exports`],
  );
}

/** What the catalog tells of and the storage node has lost. */
function missing(files: readonly string[], { volumes, repositories }: Expected): string[] {
  const there = new Set(files);
  const wanted = [
    ...[...volumes.keys()].map(id => `volumes/${id}/volume.json`),
    ...[...repositories].flatMap(([id, backups]) =>
      [...backups.keys()].flatMap(backup =>
        ['json', 'qcow2'].map(ending => `repositories/${id}/backups/${backup}.${ending}`),
      ),
    ),
  ];
  const states = new Map([...repositories.values()].flatMap(backups => [...backups]));
  return wanted
    .filter(file => !there.has(file))
    .map(file => `${file} (${states.get(basename(file).split('.')[0]!) ?? 'ready'})`);
}

async function allFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter(entry => !entry.isDirectory())
    .map(entry => relative(folder, join(entry.parentPath, entry.name)));
}

/** An export of a run that has ended would keep its image open. */
async function openFiles(world: World, node: string, stateDir: string): Promise<string[]> {
  const pid = pidOf(world, node);
  if (pid === undefined) return [`${node} does not run`];
  const open = new Set<string>();
  for (const descriptor of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => '');
    if (target.startsWith(`${stateDir}/`)) open.add(relative(stateDir, target));
  }
  const odd = [...open].filter(
    file => /^(repositories|restores|scratch)\//.test(file) || file.endsWith('(deleted)'),
  );
  return odd.map(file => `${node}: still holds ${file} open`);
}

async function jobs(world: World, node: string): Promise<string[]> {
  const { jobs: left } = await world.onStorageNode(node, clients => clients.jobs.listJobs({}));
  return left
    .filter(job => job.state !== 'concluded')
    .map(job => `${node}: job ${job.jobId} is left in state ${job.state}`);
}

/** Filters, scratch files and connections of backups and restores are block nodes. */
async function blockNodes(world: World, node: string): Promise<string[]> {
  const volumes = new Set((await world.rest.list('volumes')).map(({ id }) => id));
  const qmp = await QmpClient.connect(world.qmpPath(node), () => undefined);
  try {
    const { return: nodes } = await qmp.execute('query-named-block-nodes');
    const names = (nodes as { 'node-name': string; drv: string }[]).map(
      one => `${one['node-name']} (${one.drv})`,
    );
    const odd = names.filter(
      name => ![...volumes].some(id => name.includes(id)) || /filter|target|source/.test(name),
    );
    return odd.map(name => `${node}: block node ${name} is left`);
  } finally {
    qmp.close();
  }
}
