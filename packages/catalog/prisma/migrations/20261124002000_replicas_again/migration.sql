ALTER TABLE "policy_firing" ADD COLUMN "replicas_at" TIMESTAMPTZ(3);
CREATE INDEX "policy_firing_replicas_at_idx" ON "policy_firing"("replicas_at");
