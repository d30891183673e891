-- What is about a volume that is gone is looked up by the event of its end.
CREATE INDEX "event_volume_deleted_idx" ON "event"("subject_id") WHERE "kind" = 'volume-deleted';
