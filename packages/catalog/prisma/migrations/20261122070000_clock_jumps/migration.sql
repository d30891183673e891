-- What a lease and a delay last: one that ends later than that from now was given before the clock was set back.
ALTER TABLE "run" ADD COLUMN "delay_ms" DOUBLE PRECISION, ADD COLUMN "lease_ms" DOUBLE PRECISION;
