-- How often a run was taken over from a worker that went silent, since its last progress.
ALTER TABLE "run" ADD COLUMN "takeovers" INTEGER NOT NULL DEFAULT 0;
-- Runs that have ended are pruned by their age.
CREATE INDEX "run_finished_at_id_idx" ON "run"("finished_at", "id");
