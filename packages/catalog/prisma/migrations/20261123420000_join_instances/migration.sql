-- AlterTable
ALTER TABLE "join_token" ADD COLUMN "instance_id" TEXT;
