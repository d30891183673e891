-- What a prune has hidden and removed is read from its events.
CREATE INDEX "event_run_id_idx" ON "event"("run_id");
