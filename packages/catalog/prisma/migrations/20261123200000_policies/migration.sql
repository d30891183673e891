-- Policies: what is backed up when, each of their firings, and what became of each volume in it.
ALTER TABLE "storage_node"
  ADD COLUMN "max_concurrent_backups" INTEGER NOT NULL DEFAULT 4 CHECK ("max_concurrent_backups" > 0);
ALTER TABLE "repository"
  ADD COLUMN "max_concurrent_backups" INTEGER NOT NULL DEFAULT 8 CHECK ("max_concurrent_backups" > 0);
ALTER TABLE "run" ADD COLUMN "priority" INTEGER NOT NULL DEFAULT 0 CHECK ("priority" >= 0);

CREATE TABLE "policy" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "definition" JSONB NOT NULL,
    "enabled" BOOLEAN NOT NULL,
    "revision" INTEGER NOT NULL DEFAULT 1,
    "firings" INTEGER NOT NULL DEFAULT 0,
    "handled_until" TIMESTAMPTZ(3) NOT NULL,
    "next_due_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "policy_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "policy_next_due_check" CHECK ("enabled" OR "next_due_at" IS NULL)
);
CREATE UNIQUE INDEX "policy_name_key" ON "policy"("name");
CREATE INDEX "policy_created_at_id_idx" ON "policy"("created_at", "id");
CREATE INDEX "policy_next_due_at_idx" ON "policy"("next_due_at");

CREATE TABLE "policy_firing" (
    "id" UUID NOT NULL,
    "policy_id" UUID NOT NULL,
    "number" INTEGER,
    "cause" TEXT NOT NULL CHECK ("cause" IN ('schedule', 'missed', 'asked')),
    "due_at" TIMESTAMPTZ(3) NOT NULL,
    "start_at" TIMESTAMPTZ(3) NOT NULL,
    "stands_for" INTEGER NOT NULL DEFAULT 1 CHECK ("stands_for" > 0),
    "state" TEXT NOT NULL CHECK ("state" IN ('planned', 'running', 'succeeded', 'failed', 'skipped')),
    "definition" JSONB,
    "reason" TEXT,
    "follow_ups" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),
    CONSTRAINT "policy_firing_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "policy_firing_definition_check" CHECK ("state" <> 'running' OR "definition" IS NOT NULL),
    CONSTRAINT "policy_firing_policy_id_fkey" FOREIGN KEY ("policy_id") REFERENCES "policy"("id")
      ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE INDEX "policy_firing_policy_id_created_at_id_idx" ON "policy_firing"("policy_id", "created_at", "id");
CREATE INDEX "policy_firing_state_start_at_idx" ON "policy_firing"("state", "start_at");

CREATE TABLE "policy_firing_member" (
    "id" UUID NOT NULL,
    "firing_id" UUID NOT NULL,
    "policy_id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "volume_name" TEXT NOT NULL,
    "storage_node_id" UUID NOT NULL,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('full', 'incremental', 'differential', 'checkpoint')),
    "state" TEXT NOT NULL CHECK ("state" IN ('waiting', 'admitted', 'succeeded', 'failed', 'skipped')),
    "reason" TEXT,
    "repository_id" UUID,
    "run_id" UUID,
    "backup_id" UUID,
    "estimate_bytes" BIGINT,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "not_before" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "admitted_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),
    CONSTRAINT "policy_firing_member_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "policy_firing_member_admitted_check" CHECK ("state" <> 'admitted' OR "run_id" IS NOT NULL),
    CONSTRAINT "policy_firing_member_firing_id_fkey" FOREIGN KEY ("firing_id") REFERENCES "policy_firing"("id")
      ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE UNIQUE INDEX "policy_firing_member_firing_id_volume_id_key"
  ON "policy_firing_member"("firing_id", "volume_id");
CREATE INDEX "policy_firing_member_state_idx" ON "policy_firing_member"("state");
CREATE INDEX "policy_firing_member_policy_id_volume_id_idx" ON "policy_firing_member"("policy_id", "volume_id");
CREATE INDEX "policy_firing_member_run_id_idx" ON "policy_firing_member"("run_id");
