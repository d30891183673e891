// Every bound of the package, each with its reason; related ones are asserted against each other at load.
import { strict as assert } from 'node:assert';

const KiB = 1024;
const MiB = 1024 * KiB;

/** Data of one READ or WRITE: what every known client keeps to (section "Block size constraints"). */
export const PAYLOAD_BYTES_MAX = 32 * MiB;
/** Lengths are 32 bits on the wire. */
const REQUEST_LENGTH_MAX = 2 ** 32 - 1;
/** Longest string of the protocol (section "Conventions"). */
export const STRING_BYTES_MAX = 4096;
/** Data of one option: an export name and a few hundred context queries. */
export const OPTION_BYTES_MAX = 64 * KiB;
/** Longest message put into an error reply. */
export const ERROR_MESSAGE_BYTES_MAX = 512;
/** Time a client has for the whole handshake: a stuck one must not keep a connection. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Connections of one server: each may hold `CONNECTION_BYTES_MAX` and one payload. */
export const CONNECTIONS_MAX = 256;
/** Connections that may wait for one of those to go: what a listening socket's queue usually holds. */
export const CONNECTIONS_WAITING_MAX = 128;
/** Requests of one connection that wait for their export: deep enough for any client's queue. */
export const REQUESTS_MAX = 128;
/** Bytes of such requests; one more may begin while below it, so a largest one always fits. */
export const CONNECTION_BYTES_MAX = 16 * MiB;
/** Replies a client has not taken yet: beyond this its next requests wait. */
export const OUTPUT_BYTES_MAX = 4 * MiB;
/** Gathered replies go to the socket at this size, so that sending and reading overlap. */
export const GATHER_BYTES_MAX = 256 * KiB;
/** One read of a socket where no large payload is under way: some 15 writes of 4 KiB. */
export const INPUT_CHUNK_BYTES = 64 * KiB;
/** A payload's remainder of this size is read from the socket straight into its place. */
export const DIRECT_READ_BYTES_MIN = 8 * KiB;
/** Reply memory that small replies share. */
export const ARENA_BYTES = 128 * KiB;
/** Largest reply laid out in an arena; longer ones get a buffer of their own. */
export const ARENA_ITEM_BYTES_MAX = 36 * KiB;
/** Unused buffers kept for the next request, per pool. */
export const POOL_IDLE_BYTES_MAX = 32 * MiB;
/** Extents in one BLOCK_STATUS chunk that a server sends: 64 KiB; the client asks again for the rest. */
export const STATUS_EXTENTS_MAX = 8192;
/** Longest BLOCK_STATUS or error chunk that a client takes. */
export const CHUNK_BYTES_MAX = 4 * MiB;
/** Chunks in one reply that a client takes. */
export const CHUNKS_MAX = 65_536;
/** Replies to one option that a client takes. */
export const OPTION_REPLIES_MAX = 65_536;
/** Requests that a client has in flight on one connection. */
export const CLIENT_REQUESTS_DEFAULT = 64;
/** Requests that may wait in a client for their turn: more means that nobody awaits them. */
export const CLIENT_WAITING_MAX = 65_536;
/** Range of one request that carries no data, aligned for every block size. */
export const CLIENT_RANGE_BYTES_MAX = 1024 * MiB;
/** Time a server has to close the connection once the client has said goodbye: nothing is lost after it. */
export const GOODBYE_TIMEOUT_MS = 2_000;
/** A client's connection and handshake together. */
export const CONNECT_TIMEOUT_MS = 15_000;

assert(OPTION_BYTES_MAX > STRING_BYTES_MAX * 2, 'a name and a query of full length fit one option');
assert(ARENA_ITEM_BYTES_MAX < ARENA_BYTES);
assert(DIRECT_READ_BYTES_MIN < INPUT_CHUNK_BYTES);
assert(STATUS_EXTENTS_MAX * 8 + 4 <= CHUNK_BYTES_MAX, 'our client takes what our server sends');
assert(CLIENT_RANGE_BYTES_MAX <= REQUEST_LENGTH_MAX);
