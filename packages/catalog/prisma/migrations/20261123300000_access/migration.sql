-- Who asked for a run.
ALTER TABLE "run" ADD COLUMN "requested_by" TEXT NOT NULL DEFAULT 'system';

CREATE TABLE "api_token" (
  "id" UUID NOT NULL,
  "name" TEXT NOT NULL,
  "prefix" TEXT NOT NULL,
  "hash" TEXT NOT NULL,
  "role" TEXT NOT NULL CHECK ("role" IN ('viewer', 'operator', 'admin')),
  "scope" TEXT NOT NULL DEFAULT '',
  "created_by" TEXT NOT NULL,
  "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "expires_at" TIMESTAMPTZ(3),
  "last_used_at" TIMESTAMPTZ(3),
  "revoked_at" TIMESTAMPTZ(3),
  CONSTRAINT "api_token_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "api_token_name_key" ON "api_token"("name");
CREATE UNIQUE INDEX "api_token_prefix_key" ON "api_token"("prefix");
CREATE INDEX "api_token_created_at_id_idx" ON "api_token"("created_at", "id");

CREATE TABLE "audit_entry" (
  "id" BIGSERIAL NOT NULL,
  "at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "actor" TEXT NOT NULL,
  "token_id" UUID,
  "action" TEXT NOT NULL,
  "subject" TEXT NOT NULL,
  "run_id" UUID,
  "request" JSONB,
  "result" TEXT NOT NULL CHECK ("result" IN ('done', 'refused', 'failed')),
  "code" TEXT,
  "remote_address" TEXT NOT NULL,
  "request_id" TEXT NOT NULL,
  CONSTRAINT "audit_entry_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "audit_entry_actor_id_idx" ON "audit_entry"("actor", "id");
CREATE INDEX "audit_entry_run_id_idx" ON "audit_entry"("run_id");
CREATE INDEX "audit_entry_at_idx" ON "audit_entry"("at");

-- Append only, also for those who reach the table past the service.
CREATE FUNCTION "audit_entry_is_final"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'entries of the audit log are never changed or deleted';
END $$;
CREATE TRIGGER "audit_entry_final_rows" BEFORE UPDATE OR DELETE ON "audit_entry"
  FOR EACH ROW EXECUTE FUNCTION "audit_entry_is_final"();
CREATE TRIGGER "audit_entry_final_table" BEFORE TRUNCATE ON "audit_entry"
  FOR EACH STATEMENT EXECUTE FUNCTION "audit_entry_is_final"();

CREATE TABLE "idempotency_key" (
  "owner" TEXT NOT NULL,
  "key" TEXT NOT NULL,
  "request_hash" TEXT NOT NULL,
  "holder" UUID NOT NULL,
  "lease_until" TIMESTAMPTZ(3) NOT NULL,
  "committed" BOOLEAN NOT NULL DEFAULT false,
  "run_id" UUID,
  "status" INTEGER,
  "answer" JSONB,
  "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "expires_at" TIMESTAMPTZ(3) NOT NULL,
  CONSTRAINT "idempotency_key_pkey" PRIMARY KEY ("owner", "key")
);
CREATE INDEX "idempotency_key_expires_at_idx" ON "idempotency_key"("expires_at");
