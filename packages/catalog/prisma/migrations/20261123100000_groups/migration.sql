-- CreateTable
CREATE TABLE "checkpoint_group" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('checkpoint', 'backup')),
    "completion" TEXT NOT NULL CHECK ("completion" IN ('individual', 'grouped')),
    "selector" TEXT,
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'ready', 'incomplete', 'failed', 'cancelled', 'deleting')),
    "publication" TEXT NOT NULL DEFAULT 'waiting' CHECK ("publication" IN ('waiting', 'allowed', 'refused')),
    "fence_limit_ms" INTEGER NOT NULL CHECK ("fence_limit_ms" > 0),
    "repository_id" UUID,
    "run_id" UUID NOT NULL,
    "point_in_time" TIMESTAMPTZ(3),
    "proof" JSONB,
    "error" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "checkpoint_group_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "checkpoint_group_repository_check" CHECK (("kind" = 'backup') = ("repository_id" IS NOT NULL)),
    CONSTRAINT "checkpoint_group_proof_check" CHECK (("point_in_time" IS NULL) = ("proof" IS NULL))
);

-- CreateTable
CREATE TABLE "checkpoint_group_member" (
    "group_id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "volume_name" TEXT NOT NULL,
    "storage_node_id" UUID NOT NULL,
    "checkpoint_id" UUID NOT NULL,
    "backup_id" UUID,
    "run_id" UUID,
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'copying', 'checked', 'ready', 'failed', 'cancelled')),
    "error" JSONB,

    CONSTRAINT "checkpoint_group_member_pkey" PRIMARY KEY ("group_id", "volume_id")
);

-- CreateIndex
CREATE INDEX "checkpoint_group_created_at_id_idx" ON "checkpoint_group"("created_at", "id");

-- CreateIndex
CREATE INDEX "checkpoint_group_name_idx" ON "checkpoint_group"("name");

-- CreateIndex
CREATE INDEX "checkpoint_group_run_id_idx" ON "checkpoint_group"("run_id");

-- A name is free again when its group was given up.
CREATE UNIQUE INDEX "checkpoint_group_name_key" ON "checkpoint_group"("name")
  WHERE "state" NOT IN ('failed', 'cancelled');

-- CreateIndex
CREATE INDEX "checkpoint_group_member_volume_id_idx" ON "checkpoint_group_member"("volume_id");

-- CreateIndex
CREATE INDEX "checkpoint_group_member_checkpoint_id_idx" ON "checkpoint_group_member"("checkpoint_id");

-- CreateIndex
CREATE INDEX "checkpoint_group_member_run_id_idx" ON "checkpoint_group_member"("run_id");

-- AddForeignKey
ALTER TABLE "checkpoint_group_member" ADD CONSTRAINT "checkpoint_group_member_group_id_fkey" FOREIGN KEY ("group_id") REFERENCES "checkpoint_group"("id") ON DELETE CASCADE ON UPDATE CASCADE;
