-- AlterTable
ALTER TABLE "repository"
  DROP CONSTRAINT "repository_state_check",
  ADD CONSTRAINT "repository_state_check" CHECK ("state" IN ('creating', 'ready', 'deleting'));
