-- Whose token lets a webhook read events, and why it is suspended. Until now whoever had added it, and for deaths alone.
ALTER TABLE "webhook" ADD COLUMN "on_behalf_of" TEXT NOT NULL DEFAULT 'system';
ALTER TABLE "webhook" ADD COLUMN "suspended_for" TEXT;
UPDATE "webhook" SET "on_behalf_of" = "created_by";
UPDATE "webhook" SET "suspended_for" = 'deliveries-died' WHERE "state" = 'suspended';
