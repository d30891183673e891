-- A run is given up for failures without progress, not for all of a long life; and for a target that stays away, by time.
ALTER TABLE "run" ADD COLUMN "failures_in_a_row" INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "run" ADD COLUMN "target_away_ms" DOUBLE PRECISION NOT NULL DEFAULT 0;
