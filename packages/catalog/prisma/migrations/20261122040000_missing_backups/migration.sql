-- A backup whose manifest its repository does not have is neither a base nor restored; its row stays.
ALTER TABLE "backup"
  DROP CONSTRAINT "backup_state_check",
  ADD CONSTRAINT "backup_state_check"
    CHECK ("state" IN ('creating', 'available', 'hidden', 'removing', 'missing'));
