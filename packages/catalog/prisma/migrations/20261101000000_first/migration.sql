-- CreateTable
CREATE TABLE "storage_node" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "control_address" TEXT NOT NULL,
    "instance_id" TEXT,
    "nbd_address" TEXT,
    "state" TEXT NOT NULL CHECK ("state" IN ('joining', 'online', 'unreachable')),
    "version" TEXT,
    "capacity_bytes" BIGINT,
    "available_bytes" BIGINT,
    "last_seen_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "storage_node_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "volume" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "storage_node_id" UUID NOT NULL,
    "size_bytes" BIGINT NOT NULL CHECK ("size_bytes" > 0),
    "format" TEXT NOT NULL CHECK ("format" IN ('raw', 'qcow2')),
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'ready', 'deleting')),
    "export_uri" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "volume_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "checkpoint" (
    "id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'ready', 'deleting')),
    "point_in_time" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "checkpoint_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "repository" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "storage_node_id" UUID NOT NULL,
    "limit_bytes" BIGINT CHECK ("limit_bytes" > 0),
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'ready')),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "repository_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "backup" (
    "id" UUID NOT NULL,
    "repository_id" UUID NOT NULL,
    "volume_id" UUID NOT NULL,
    "volume_name" TEXT NOT NULL,
    "checkpoint_id" UUID NOT NULL,
    "checkpoint_name" TEXT NOT NULL,
    "parent_id" UUID,
    "kind" TEXT NOT NULL CHECK ("kind" IN ('full', 'incremental')),
    "reason" TEXT NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('creating', 'available')),
    "size_bytes" BIGINT NOT NULL,
    "stored_bytes" BIGINT,
    "dirty_bytes" BIGINT,
    "sent_bytes" BIGINT,
    "file_name" TEXT,
    "point_in_time" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "backup_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "backup_parent_check" CHECK (("kind" = 'incremental') = ("parent_id" IS NOT NULL))
);

-- CreateTable
CREATE TABLE "run" (
    "id" UUID NOT NULL,
    "kind" TEXT NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    "storage_node_id" UUID,
    "volume_id" UUID,
    "checkpoint_id" UUID,
    "repository_id" UUID,
    "backup_id" UUID,
    "request" JSONB NOT NULL,
    "result" JSONB,
    "error" JSONB,
    "reason" TEXT,
    "current_bytes" BIGINT NOT NULL DEFAULT 0,
    "total_bytes" BIGINT NOT NULL DEFAULT 0,
    "sent_bytes" BIGINT NOT NULL DEFAULT 0,
    "dirty_bytes" BIGINT NOT NULL DEFAULT 0,
    "cancel_requested" BOOLEAN NOT NULL DEFAULT false,
    "undoing" BOOLEAN NOT NULL DEFAULT false,
    "cleanup_pending" BOOLEAN NOT NULL DEFAULT false,
    "attempt" INTEGER NOT NULL DEFAULT 1,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "not_before" TIMESTAMPTZ(3),
    "lease_owner" TEXT,
    "lease_epoch" INTEGER NOT NULL DEFAULT 0,
    "lease_until" TIMESTAMPTZ(3),
    "checkpoint_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "started_at" TIMESTAMPTZ(3),
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "run_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "run_step" (
    "run_id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "position" INTEGER NOT NULL,
    "state" TEXT NOT NULL CHECK ("state" IN ('running', 'succeeded', 'failed', 'undone')),
    "output" JSONB,
    "error" JSONB,
    "started_at" TIMESTAMPTZ(3) NOT NULL,
    "finished_at" TIMESTAMPTZ(3),

    CONSTRAINT "run_step_pkey" PRIMARY KEY ("run_id", "name")
);

-- CreateTable
CREATE TABLE "event" (
    "id" BIGSERIAL NOT NULL,
    "kind" TEXT NOT NULL,
    "subject_type" TEXT NOT NULL,
    "subject_id" UUID NOT NULL,
    "run_id" UUID,
    "data" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "event_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "storage_node_name_key" ON "storage_node"("name");

-- CreateIndex
CREATE UNIQUE INDEX "storage_node_control_address_key" ON "storage_node"("control_address");

-- CreateIndex
CREATE UNIQUE INDEX "storage_node_instance_id_key" ON "storage_node"("instance_id");

-- CreateIndex
CREATE INDEX "storage_node_created_at_id_idx" ON "storage_node"("created_at", "id");

-- CreateIndex
CREATE UNIQUE INDEX "volume_name_key" ON "volume"("name");

-- CreateIndex
CREATE INDEX "volume_storage_node_id_idx" ON "volume"("storage_node_id");

-- CreateIndex
CREATE INDEX "volume_created_at_id_idx" ON "volume"("created_at", "id");

-- CreateIndex
CREATE INDEX "checkpoint_volume_id_created_at_id_idx" ON "checkpoint"("volume_id", "created_at", "id");

-- CreateIndex
CREATE UNIQUE INDEX "checkpoint_volume_id_name_key" ON "checkpoint"("volume_id", "name");

-- CreateIndex
CREATE UNIQUE INDEX "repository_name_key" ON "repository"("name");

-- CreateIndex
CREATE INDEX "repository_storage_node_id_idx" ON "repository"("storage_node_id");

-- CreateIndex
CREATE INDEX "repository_created_at_id_idx" ON "repository"("created_at", "id");

-- CreateIndex
CREATE INDEX "backup_volume_id_created_at_id_idx" ON "backup"("volume_id", "created_at", "id");

-- CreateIndex
CREATE INDEX "backup_repository_id_created_at_id_idx" ON "backup"("repository_id", "created_at", "id");

-- CreateIndex
CREATE INDEX "backup_checkpoint_id_idx" ON "backup"("checkpoint_id");

-- CreateIndex
CREATE INDEX "backup_parent_id_idx" ON "backup"("parent_id");

-- CreateIndex
CREATE INDEX "backup_created_at_id_idx" ON "backup"("created_at", "id");

-- CreateIndex
CREATE UNIQUE INDEX "backup_repository_id_checkpoint_id_key" ON "backup"("repository_id", "checkpoint_id");

-- CreateIndex
CREATE INDEX "run_created_at_id_idx" ON "run"("created_at", "id");

-- CreateIndex
CREATE INDEX "run_state_created_at_id_idx" ON "run"("state", "created_at", "id");

-- CreateIndex
CREATE INDEX "run_volume_id_idx" ON "run"("volume_id");

-- CreateIndex
CREATE INDEX "run_storage_node_id_idx" ON "run"("storage_node_id");

-- CreateIndex
CREATE INDEX "run_repository_id_idx" ON "run"("repository_id");

-- CreateIndex
CREATE INDEX "run_backup_id_idx" ON "run"("backup_id");

-- CreateIndex
CREATE INDEX "event_subject_id_id_idx" ON "event"("subject_id", "id");

-- AddForeignKey
ALTER TABLE "volume" ADD CONSTRAINT "volume_storage_node_id_fkey" FOREIGN KEY ("storage_node_id") REFERENCES "storage_node"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "checkpoint" ADD CONSTRAINT "checkpoint_volume_id_fkey" FOREIGN KEY ("volume_id") REFERENCES "volume"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "repository" ADD CONSTRAINT "repository_storage_node_id_fkey" FOREIGN KEY ("storage_node_id") REFERENCES "storage_node"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "backup" ADD CONSTRAINT "backup_repository_id_fkey" FOREIGN KEY ("repository_id") REFERENCES "repository"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "backup" ADD CONSTRAINT "backup_parent_id_fkey" FOREIGN KEY ("parent_id") REFERENCES "backup"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "run_step" ADD CONSTRAINT "run_step_run_id_fkey" FOREIGN KEY ("run_id") REFERENCES "run"("id") ON DELETE CASCADE ON UPDATE CASCADE;
