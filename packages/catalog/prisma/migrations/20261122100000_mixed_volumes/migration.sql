-- AlterTable
ALTER TABLE "volume" ADD COLUMN "mixed_with_backup_id" UUID;
