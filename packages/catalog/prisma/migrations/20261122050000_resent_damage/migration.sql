-- What a backup has sent again of the damage below it: later damage there, or elsewhere, is told apart from that.
ALTER TABLE "backup" ADD COLUMN "resent" JSONB;
UPDATE "backup" SET "damage" = NULL WHERE "damage" = '[]'::jsonb;
