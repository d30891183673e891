-- AlterTable
ALTER TABLE "storage_node" ADD COLUMN "labels" JSONB NOT NULL DEFAULT '{}';
ALTER TABLE "volume" ADD COLUMN "labels" JSONB NOT NULL DEFAULT '{}';
ALTER TABLE "repository" ADD COLUMN "labels" JSONB NOT NULL DEFAULT '{}';

-- CreateIndex
CREATE INDEX "volume_labels_idx" ON "volume" USING GIN ("labels");
