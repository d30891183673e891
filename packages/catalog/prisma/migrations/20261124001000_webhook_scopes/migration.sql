-- A webhook is sent what whoever added it may see. Until now nobody with a scope could add one.
ALTER TABLE "webhook" ADD COLUMN "scope" TEXT NOT NULL DEFAULT '';
ALTER TABLE "webhook" ADD COLUMN "created_by" TEXT NOT NULL DEFAULT 'system';
