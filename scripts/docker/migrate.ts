// A container that brings the catalog up to this version and ends; the services wait for it.

import { applyMigrations } from '@tidemark/catalog';
import { CATALOG_SECRETS, databaseUrlSetting, readSettings, withPassword } from '@tidemark/proto';
import { z } from 'zod';

const settings = z.object({
  TIDEMARK_DATABASE_URL: databaseUrlSetting,
  TIDEMARK_DATABASE_PASSWORD: z.string().optional(),
});
const { TIDEMARK_DATABASE_URL: url, TIDEMARK_DATABASE_PASSWORD: password } = readSettings(
  settings,
  process.env,
  CATALOG_SECRETS,
);
const applied = await applyMigrations(withPassword(url, password));
console.log(applied.length === 0 ? 'the catalog is up to date' : `applied ${applied.join(', ')}`);
