-- AlterTable
ALTER TABLE "backup" ADD COLUMN "replica_of_id" UUID;

-- CreateIndex
CREATE INDEX "backup_replica_of_id_idx" ON "backup"("replica_of_id");

-- CreateTable
CREATE TABLE "replication_rule" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "source_repository_id" UUID NOT NULL,
    "target_repository_id" UUID NOT NULL,
    "selector" TEXT NOT NULL DEFAULT '',
    "enabled" BOOLEAN NOT NULL DEFAULT true,
    "keep" JSONB,
    "time_zone" TEXT NOT NULL DEFAULT 'UTC',
    "flatten" BOOLEAN NOT NULL DEFAULT false,
    "newest_first" BOOLEAN NOT NULL DEFAULT false,
    "concurrency" INTEGER NOT NULL DEFAULT 2 CHECK ("concurrency" > 0),
    "speed_bytes_per_second" BIGINT CHECK ("speed_bytes_per_second" >= 0),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "replication_rule_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "replication_rule_apart_check" CHECK ("source_repository_id" <> "target_repository_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "replication_rule_name_key" ON "replication_rule"("name");
CREATE INDEX "replication_rule_source_repository_id_idx" ON "replication_rule"("source_repository_id");
CREATE INDEX "replication_rule_target_repository_id_idx" ON "replication_rule"("target_repository_id");
CREATE INDEX "replication_rule_created_at_id_idx" ON "replication_rule"("created_at", "id");

-- AddForeignKey
ALTER TABLE "replication_rule"
  ADD CONSTRAINT "replication_rule_source_repository_id_fkey"
    FOREIGN KEY ("source_repository_id") REFERENCES "repository"("id") ON DELETE CASCADE ON UPDATE CASCADE,
  ADD CONSTRAINT "replication_rule_target_repository_id_fkey"
    FOREIGN KEY ("target_repository_id") REFERENCES "repository"("id") ON DELETE CASCADE ON UPDATE CASCADE;
