// A catalog of one test, on a database of its own.
import { onTestFinished } from 'vitest';
import { Catalog, type CatalogOptions } from '../catalog.ts';
import { createTestDatabase, type TestDatabase } from './test-database.ts';

/** For a test, or what comes before each: both are gone when the test has finished. */
export async function openTestCatalog(
  options?: CatalogOptions,
): Promise<{ catalog: Catalog; database: TestDatabase }> {
  const database = await createTestDatabase();
  onTestFinished(() => database.drop());
  const catalog = Catalog.connect(database.url, options);
  // The last that is said here is done first.
  onTestFinished(() => catalog.close());
  return { catalog, database };
}
