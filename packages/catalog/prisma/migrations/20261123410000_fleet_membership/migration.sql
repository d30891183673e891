-- AlterTable
ALTER TABLE "storage_node"
  ADD COLUMN "cordoned_at" TIMESTAMPTZ(3),
  DROP CONSTRAINT "storage_node_state_check",
  ADD CONSTRAINT "storage_node_state_check" CHECK ("state" IN ('joining', 'online', 'unreachable', 'lost'));

ALTER TABLE "volume"
  DROP CONSTRAINT "volume_state_check",
  ADD CONSTRAINT "volume_state_check" CHECK ("state" IN ('creating', 'ready', 'deleting', 'moving', 'lost'));

ALTER TABLE "repository"
  DROP CONSTRAINT "repository_state_check",
  ADD CONSTRAINT "repository_state_check" CHECK ("state" IN ('creating', 'ready', 'deleting', 'lost'));

-- CreateTable
CREATE TABLE "join_token" (
    "id" UUID NOT NULL,
    "hash" TEXT NOT NULL,
    "name" TEXT,
    "expires_at" TIMESTAMPTZ(3) NOT NULL,
    "used_at" TIMESTAMPTZ(3),
    "storage_node_id" UUID,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "join_token_pkey" PRIMARY KEY ("id")
);

-- CreateIndex
CREATE UNIQUE INDEX "join_token_hash_key" ON "join_token"("hash");
CREATE INDEX "join_token_created_at_id_idx" ON "join_token"("created_at", "id");
