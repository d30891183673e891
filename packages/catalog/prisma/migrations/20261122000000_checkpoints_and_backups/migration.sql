-- AlterTable
ALTER TABLE "volume"
  ADD COLUMN "checkpoint_limit" INTEGER NOT NULL DEFAULT 64 CHECK ("checkpoint_limit" > 0),
  ADD COLUMN "source_backup_id" UUID,
  ADD COLUMN "audited_at" TIMESTAMPTZ(3),
  ADD COLUMN "audit_result" TEXT CHECK ("audit_result" IN ('equal', 'different')),
  ADD CONSTRAINT "volume_audit_check" CHECK (("audited_at" IS NULL) = ("audit_result" IS NULL));

-- AlterTable
ALTER TABLE "checkpoint"
  ADD COLUMN "description" TEXT NOT NULL DEFAULT '',
  ADD COLUMN "origin_backup_id" UUID,
  ADD COLUMN "pinned_until" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "repository"
  ADD COLUMN "compression" TEXT NOT NULL DEFAULT 'none' CHECK ("compression" IN ('none', 'zstd')),
  ADD COLUMN "verify_percent_per_day" DOUBLE PRECISION NOT NULL DEFAULT 0
    CHECK ("verify_percent_per_day" BETWEEN 0 AND 100);

-- AlterTable
ALTER TABLE "backup"
  ADD COLUMN "description" TEXT NOT NULL DEFAULT '',
  ADD COLUMN "compression" TEXT NOT NULL DEFAULT 'none' CHECK ("compression" IN ('none', 'zstd')),
  ADD COLUMN "pinned_until" TIMESTAMPTZ(3),
  ADD COLUMN "verified_at" TIMESTAMPTZ(3),
  ADD COLUMN "verify_result" TEXT CHECK ("verify_result" IN ('sound', 'damaged')),
  ADD COLUMN "damage" JSONB,
  DROP CONSTRAINT "backup_kind_check",
  DROP CONSTRAINT "backup_state_check",
  DROP CONSTRAINT "backup_parent_check",
  ADD CONSTRAINT "backup_kind_check" CHECK ("kind" IN ('full', 'incremental', 'differential')),
  ADD CONSTRAINT "backup_state_check" CHECK ("state" IN ('creating', 'available', 'hidden', 'removing')),
  ADD CONSTRAINT "backup_parent_check" CHECK (("kind" = 'full') = ("parent_id" IS NULL)),
  ADD CONSTRAINT "backup_verify_check" CHECK (("verified_at" IS NULL) = ("verify_result" IS NULL));

-- AlterTable
ALTER TABLE "run"
  ADD COLUMN "pause_requested" BOOLEAN NOT NULL DEFAULT false,
  ADD COLUMN "finish_requested" BOOLEAN NOT NULL DEFAULT false,
  ADD COLUMN "speed_bytes_per_second" BIGINT CHECK ("speed_bytes_per_second" >= 0);

-- CreateTable
CREATE TABLE "backup_lease" (
    "id" UUID NOT NULL,
    "backup_id" UUID NOT NULL,
    "holder" TEXT NOT NULL CHECK ("holder" IN ('run', 'volume')),
    "holder_id" UUID NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "backup_lease_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "difference" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "subject_type" TEXT NOT NULL,
    "subject_id" UUID NOT NULL,
    "storage_node_id" UUID,
    "state" TEXT NOT NULL CHECK ("state" IN ('open', 'repaired', 'gone')),
    "message" TEXT NOT NULL,
    "data" JSONB NOT NULL,
    "first_seen_at" TIMESTAMPTZ(3) NOT NULL,
    "last_seen_at" TIMESTAMPTZ(3) NOT NULL,
    "ended_at" TIMESTAMPTZ(3),

    CONSTRAINT "difference_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "difference_ended_check" CHECK (("state" = 'open') = ("ended_at" IS NULL))
);

-- CreateIndex
CREATE UNIQUE INDEX "backup_lease_backup_id_holder_holder_id_key" ON "backup_lease"("backup_id", "holder", "holder_id");

-- CreateIndex
CREATE INDEX "backup_lease_holder_id_idx" ON "backup_lease"("holder_id");

-- CreateIndex
CREATE INDEX "difference_state_first_seen_at_id_idx" ON "difference"("state", "first_seen_at", "id");

-- CreateIndex
CREATE INDEX "difference_subject_id_idx" ON "difference"("subject_id");

-- One open row of a kind for each subject.
CREATE UNIQUE INDEX "difference_open_key" ON "difference"("kind", "subject_id") WHERE "state" = 'open';

-- AddForeignKey
ALTER TABLE "backup_lease" ADD CONSTRAINT "backup_lease_backup_id_fkey" FOREIGN KEY ("backup_id") REFERENCES "backup"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
