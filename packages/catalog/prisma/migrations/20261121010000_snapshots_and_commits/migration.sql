-- CreateTable
CREATE TABLE "snapshot" (
    "id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'ready')),
    "point_in_time" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "snapshot_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "snapshot_point_in_time_check" CHECK (("state" = 'ready') = ("point_in_time" IS NOT NULL))
);

-- CreateTable
CREATE TABLE "volume_commit" (
    "id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "run_id" UUID NOT NULL,
    "top_snapshot_id" UUID,
    "top_snapshot" TEXT,
    "base_snapshot_id" UUID,
    "base_snapshot" TEXT,
    "shallow" BOOLEAN NOT NULL,
    "active" BOOLEAN NOT NULL,
    "delete_files" BOOLEAN NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN
      ('starting', 'copying', 'ready', 'pivoting', 'keeping', 'done', 'failed', 'cancelled')),
    "decision" TEXT CHECK ("decision" IN ('pivot', 'keep')),
    "lost_snapshots" JSONB NOT NULL,
    "error" JSONB,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "volume_commit_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "volume_commit_top_check" CHECK (("top_snapshot_id" IS NULL) = ("top_snapshot" IS NULL)),
    CONSTRAINT "volume_commit_base_check" CHECK (("base_snapshot_id" IS NULL) = ("base_snapshot" IS NULL)),
    CONSTRAINT "volume_commit_top_active_check" CHECK ("active" = ("top_snapshot_id" IS NULL)),
    CONSTRAINT "volume_commit_shallow_base_check" CHECK (NOT "shallow" OR "base_snapshot_id" IS NULL),
    -- Only what the guest writes to waits for a decision.
    CONSTRAINT "volume_commit_waiting_check" CHECK ("active" OR
      ("decision" IS NULL AND "state" NOT IN ('ready', 'pivoting', 'keeping'))),
    CONSTRAINT "volume_commit_finished_check" CHECK
      (("state" IN ('done', 'failed', 'cancelled')) = ("finished_at" IS NOT NULL))
);

-- CreateIndex
CREATE INDEX "snapshot_volume_id_created_at_id_idx" ON "snapshot"("volume_id", "created_at", "id");

-- CreateIndex
CREATE UNIQUE INDEX "snapshot_volume_id_name_key" ON "snapshot"("volume_id", "name");

-- CreateIndex
CREATE INDEX "volume_commit_volume_id_created_at_id_idx" ON "volume_commit"("volume_id", "created_at", "id");

-- AddForeignKey
ALTER TABLE "snapshot" ADD CONSTRAINT "snapshot_volume_id_fkey" FOREIGN KEY ("volume_id") REFERENCES "volume"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "volume_commit" ADD CONSTRAINT "volume_commit_volume_id_fkey" FOREIGN KEY ("volume_id") REFERENCES "volume"("id") ON DELETE CASCADE ON UPDATE CASCADE;
