import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// These get a PostgreSQL server before their first suite.
const databaseUsers = ['packages/catalog', 'apps/worker', 'apps/api', 'apps/cli'];
const databaseSetup = fileURLToPath(new URL('packages/catalog/src/testing/global-setup.ts', import.meta.url));

// Files at a time. Most of them wait more than they work, for processes, leases, clocks: more than there are cores.
// Many bring a whole installation up: not all cores of a large machine.
const FILES_AT_A_TIME = Math.min(8, Math.max(3, availableParallelism()));

// What is waited for comes when a busy machine has got to it.
const settling = { poll: { timeout: 30_000 } };

const project = (root: string) => ({
  test: {
    name: root.split('/')[1] ?? root,
    root,
    include: ['src/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['test/interop/**', 'test/oracle/**', '**/node_modules/**'],
    globalSetup: databaseUsers.includes(root) ? [databaseSetup] : [],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: FILES_AT_A_TIME,
    expect: settling,
  },
});

export default defineConfig({
  test: {
    pool: 'forks',
    projects: [
      ...['packages/engine', 'packages/nbd', 'packages/proto', 'packages/catalog', 'packages/client'].map(
        project,
      ),
      ...['apps/storage-node', 'apps/worker', 'apps/api', 'apps/cli'].map(project),
      {
        test: {
          name: 'scripts',
          root: 'scripts',
          include: ['**/*.test.ts'],
          exclude: ['**/interop/**', '**/node_modules/**'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          maxWorkers: FILES_AT_A_TIME,
          expect: settling,
        },
      },
      {
        test: {
          name: 'interop',
          root: '.',
          include: ['{packages,apps}/*/test/interop/**/*.test.ts', 'scripts/*/interop/**/*.test.ts'],
          testTimeout: 180_000,
          hookTimeout: 120_000,
          maxWorkers: FILES_AT_A_TIME,
          expect: settling,
        },
      },
      {
        test: {
          name: 'oracle',
          root: 'apps/storage-node/test/oracle',
          include: ['**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 60_000,
          maxWorkers: 2,
          expect: settling,
        },
      },
    ],
  },
});
