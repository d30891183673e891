// The one setting of the tests that need PostgreSQL.

/** A server to use instead of a private one; its user must be allowed to create databases. */
export const testServerUrl: string | undefined = process.env.TIDEMARK_TEST_DATABASE_URL || undefined;
