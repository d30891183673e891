// For tests of packages that use the catalog.
export { addBackup, seed } from './nouns.ts';
export { databaseUrl, inDatabase } from './server.ts';
export { openTestCatalog } from './test-catalog.ts';
export { createTestDatabase, type TestDatabase, testContainers } from './test-database.ts';
