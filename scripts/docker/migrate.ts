// A container that brings the catalog up to this version and ends; the services wait for it.

import { applyMigrations } from '@tidemark/catalog';

const url = process.env.TIDEMARK_DATABASE_URL;
if (!url) throw new Error('TIDEMARK_DATABASE_URL is not set; give the address of the catalog');
const applied = await applyMigrations(url);
console.log(applied.length === 0 ? 'the catalog is up to date' : `applied ${applied.join(', ')}`);
