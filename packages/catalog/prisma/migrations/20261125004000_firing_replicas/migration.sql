-- Each replica that a firing is to make has a row of its own, so that it can be begun again like a backup.
CREATE TABLE "policy_firing_replica" (
    "id" UUID NOT NULL,
    "firing_id" UUID NOT NULL,
    "backup_id" UUID NOT NULL,
    "repository_id" UUID NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('waiting', 'started', 'succeeded', 'failed')),
    "reason" TEXT,
    "run_id" UUID,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "refusals" INTEGER NOT NULL DEFAULT 0,
    "not_before" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "policy_firing_replica_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "policy_firing_replica_started_check" CHECK ("state" <> 'started' OR "run_id" IS NOT NULL),
    CONSTRAINT "policy_firing_replica_firing_id_fkey" FOREIGN KEY ("firing_id") REFERENCES "policy_firing"("id")
      ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE UNIQUE INDEX "policy_firing_replica_firing_id_backup_id_repository_id_key"
  ON "policy_firing_replica"("firing_id", "backup_id", "repository_id");
CREATE INDEX "policy_firing_replica_state_not_before_idx" ON "policy_firing_replica"("state", "not_before");
CREATE INDEX "policy_firing_replica_run_id_idx" ON "policy_firing_replica"("run_id");

INSERT INTO "policy_firing_replica"
  ("id", "firing_id", "backup_id", "repository_id", "state", "reason", "refusals", "not_before", "created_at")
SELECT gen_random_uuid(), firing."id", (one #>> '{again,backupId}')::uuid, (one #>> '{again,repositoryId}')::uuid,
  'waiting', one ->> 'reason', (one #>> '{again,tries}')::int, (one #>> '{again,at}')::timestamptz, firing."created_at"
FROM "policy_firing" AS firing, jsonb_array_elements(firing."follow_ups") AS one
WHERE jsonb_typeof(one -> 'again') = 'object'
ON CONFLICT DO NOTHING;

UPDATE "policy_firing" SET "follow_ups" = (
  SELECT coalesce(jsonb_agg(one), '[]') FROM jsonb_array_elements("follow_ups") AS one
  WHERE jsonb_typeof(one -> 'again') IS DISTINCT FROM 'object')
WHERE "replicas_at" IS NOT NULL;

DROP INDEX "policy_firing_replicas_at_idx";
ALTER TABLE "policy_firing" DROP COLUMN "replicas_at", ADD COLUMN "followed_at" TIMESTAMPTZ(3);
