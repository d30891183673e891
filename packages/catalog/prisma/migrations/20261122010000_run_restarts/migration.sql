-- How often a run has begun anew from an earlier step, such as a backup from a new point in time.
ALTER TABLE "run" ADD COLUMN "restarts" INTEGER NOT NULL DEFAULT 0;
