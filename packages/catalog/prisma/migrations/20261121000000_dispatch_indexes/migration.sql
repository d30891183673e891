-- Every worker looks each second for runs to hand over: it must not read those that have ended.

-- CreateIndex
CREATE INDEX "run_lease_until_idx" ON "run"("lease_until");

-- CreateIndex
CREATE INDEX "run_cleanup_pending_idx" ON "run"("cleanup_pending");
