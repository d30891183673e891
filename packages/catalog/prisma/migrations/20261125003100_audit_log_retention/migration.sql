-- What the log is searched for.
CREATE INDEX "audit_entry_action_id_idx" ON "audit_entry"("action", "id");
CREATE INDEX "audit_entry_result_id_idx" ON "audit_entry"("result", "id");
CREATE INDEX "audit_entry_subject_idx" ON "audit_entry"("subject" text_pattern_ops);

-- Entries go for their age alone: in a transaction that says so, and none that is younger than 30 days, whatever it says.
CREATE OR REPLACE FUNCTION "audit_entry_is_final"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('tidemark.prunes_audit_log', true) = 'on' THEN
    IF OLD."at" < now() - interval '30 days' THEN
      RETURN OLD;
    END IF;
  END IF;
  RAISE EXCEPTION 'entries of the audit log are never changed, and deleted for their age alone';
END $$;
