-- When a verification of a backup was last asked for: what is due is read without all runs there ever were.
ALTER TABLE "backup" ADD COLUMN "verify_tried_at" TIMESTAMPTZ(3);
UPDATE "backup" SET "verify_tried_at" = (
  SELECT max("created_at") FROM "run" WHERE "run"."kind" = 'verify' AND "run"."backup_id" = "backup"."id"
);
DROP INDEX "run_repository_id_idx";
CREATE INDEX "run_repository_id_kind_created_at_idx" ON "run"("repository_id", "kind", "created_at");
