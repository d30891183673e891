-- AlterTable
ALTER TABLE "volume" ADD COLUMN "distrusted_until" TIMESTAMPTZ(3);

UPDATE "volume" SET "distrusted_until" = "audited_at" WHERE "audit_result" = 'different';
