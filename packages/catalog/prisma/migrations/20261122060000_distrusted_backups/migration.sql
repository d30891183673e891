-- AlterTable
ALTER TABLE "backup" ADD COLUMN "distrusted" BOOLEAN NOT NULL DEFAULT false;

UPDATE "backup" SET "distrusted" = true FROM "volume"
WHERE "volume"."id" = "backup"."volume_id" AND "backup"."point_in_time" <= "volume"."distrusted_until";
