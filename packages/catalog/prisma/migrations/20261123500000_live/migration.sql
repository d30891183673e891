-- Events are found by the volume that they are about, and by time. They are written while their writer has its turn:
-- the clock of the database at that moment grows with their ids, unlike the beginning of their transactions.
ALTER TABLE "event" ADD COLUMN "volume_id" UUID;
ALTER TABLE "event" ALTER COLUMN "created_at" SET DEFAULT clock_timestamp();
UPDATE "event" SET "volume_id" = CASE WHEN "subject_type" = 'volume' THEN "subject_id"
  ELSE (SELECT "volume_id" FROM "run" WHERE "run"."id" = "event"."run_id") END;
CREATE INDEX "event_volume_id_id_idx" ON "event"("volume_id", "id");
CREATE INDEX "event_created_at_id_idx" ON "event"("created_at", "id");

-- Events with ids up to this one are pruned: who asks for what came after an older one is told.
CREATE TABLE "event_horizon" (
    "id" INTEGER NOT NULL,
    "pruned_up_to" BIGINT NOT NULL DEFAULT 0,

    CONSTRAINT "event_horizon_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "event_horizon_one" CHECK ("id" = 1)
);
INSERT INTO "event_horizon" ("id") VALUES (1);

CREATE TABLE "webhook" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "url" TEXT NOT NULL,
    "kinds" JSONB NOT NULL,
    "selector" TEXT NOT NULL,
    "secret" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "cursor" BIGINT NOT NULL,
    "deaths_in_a_row" INTEGER NOT NULL DEFAULT 0,
    "next_at" TIMESTAMPTZ(3),
    "lease_owner" TEXT,
    "lease_until" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "webhook_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "webhook_state" CHECK ("state" IN ('enabled', 'disabled', 'suspended'))
);
CREATE UNIQUE INDEX "webhook_name_key" ON "webhook"("name");
CREATE INDEX "webhook_created_at_id_idx" ON "webhook"("created_at", "id");

CREATE TABLE "webhook_delivery" (
    "id" UUID NOT NULL,
    "webhook_id" UUID NOT NULL,
    "sequence" BIGSERIAL NOT NULL,
    "event_id" BIGINT,
    "kind" TEXT NOT NULL,
    "body" TEXT NOT NULL,
    "state" TEXT NOT NULL,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "status" INTEGER,
    "detail" TEXT,
    "attempted_at" TIMESTAMPTZ(3),
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "webhook_delivery_pkey" PRIMARY KEY ("id"),
    CONSTRAINT "webhook_delivery_state" CHECK ("state" IN ('pending', 'delivered', 'dead'))
);
CREATE UNIQUE INDEX "webhook_delivery_webhook_id_event_id_key" ON "webhook_delivery"("webhook_id", "event_id");
CREATE INDEX "webhook_delivery_webhook_id_state_sequence_idx" ON "webhook_delivery"("webhook_id", "state", "sequence");
CREATE INDEX "webhook_delivery_webhook_id_created_at_id_idx" ON "webhook_delivery"("webhook_id", "created_at", "id");
CREATE INDEX "webhook_delivery_state_attempted_at_idx" ON "webhook_delivery"("state", "attempted_at");

ALTER TABLE "webhook_delivery" ADD CONSTRAINT "webhook_delivery_webhook_id_fkey" FOREIGN KEY ("webhook_id")
  REFERENCES "webhook"("id") ON DELETE CASCADE ON UPDATE CASCADE;
