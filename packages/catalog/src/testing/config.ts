// The settings of the tests that need PostgreSQL.
import { SERVER_KINDS, type ServerKind } from '../../../../scripts/docker/testing/test-servers.ts';

/** A server to use instead of a private one; its user must be allowed to create databases. */
export const testServerUrl: string | undefined = process.env.TIDEMARK_TEST_DATABASE_URL || undefined;

/** Where the private servers run. Throws when it is none of the kinds. */
export function testServerKind(): ServerKind {
  const text = process.env.TIDEMARK_TEST_SERVERS || 'auto';
  const kind = SERVER_KINDS.find(name => name === text);
  if (kind === undefined) {
    throw new Error(`TIDEMARK_TEST_SERVERS is '${text}'; give one of ${SERVER_KINDS.join(', ')}`);
  }
  return kind;
}
