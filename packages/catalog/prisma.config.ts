// Tells the Prisma CLI where the schema and the migrations are. Only `generate`, `validate` and `format`
// are used; none of them runs the schema engine, which Prisma would otherwise download from its own host.
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'prisma/config';

// Any existing file stops the download; this one is certain to exist.
process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= fileURLToPath(import.meta.url);

export default defineConfig({
  schema: 'prisma',
  migrations: { path: 'prisma/migrations' },
});
