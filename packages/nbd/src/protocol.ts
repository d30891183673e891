// Constants of the Network Block Device protocol, data only. Names follow doc/proto.md of the reference
// implementation without the NBD_ prefix; every number on the wire is big-endian.

/** First eight bytes of a server's greeting, ASCII `NBDMAGIC`. */
export const GREETING_MAGIC = 0x4e42444d41474943n;
/** Second eight bytes of a newstyle greeting, and the start of every option, ASCII `IHAVEOPT`. */
export const OPTION_MAGIC = 0x49484156454f5054n;
/** Start of every reply to an option. */
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;
/** Start of every transmission request. */
export const REQUEST_MAGIC = 0x25609513;
/** Start of a simple reply. */
export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** Start of one chunk of a structured reply. */
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** Greeting: both magics and the 16-bit handshake flags. */
export const GREETING_BYTES = 18;
/** Option header: magic, option, data length. */
export const OPTION_HEADER_BYTES = 16;
/** Option reply header: magic, option, reply type, data length. */
export const OPTION_REPLY_HEADER_BYTES = 20;
/** Reply to EXPORT_NAME: size and transmission flags. */
export const EXPORT_NAME_REPLY_BYTES = 10;
/** Zeroes after it unless both sides agreed on NO_ZEROES. */
export const EXPORT_NAME_PADDING_BYTES = 124;
/** Request: magic, command flags, command, cookie, offset, length. */
export const REQUEST_BYTES = 28;
/** Simple reply: magic, error, cookie. */
export const SIMPLE_REPLY_BYTES = 16;
/** Structured reply chunk header: magic, flags, type, cookie, length. */
export const CHUNK_HEADER_BYTES = 20;
/** In front of the data of an OFFSET_DATA chunk: the offset. */
export const CHUNK_OFFSET_BYTES = 8;

/** Section "Handshake flags", 16 bits from the server; the client answers with the same bits in 32. */
export const HANDSHAKE_FLAG = {
  /** Options get replies, and unknown ones do not end the session. */
  FIXED_NEWSTYLE: 1 << 0,
  /** The 124 zeroes after EXPORT_NAME are left out. */
  NO_ZEROES: 1 << 1,
} as const;

/** Section "Transmission flags", 16 bits. */
export const TRANSMISSION_FLAG = {
  /** Always set. */
  HAS_FLAGS: 1 << 0,
  /** Every writing command fails. */
  READ_ONLY: 1 << 1,
  /** FLUSH is understood. */
  SEND_FLUSH: 1 << 2,
  /** The FUA command flag is understood. */
  SEND_FUA: 1 << 3,
  /** The export behaves like a rotating disk. */
  ROTATIONAL: 1 << 4,
  /** TRIM is understood. */
  SEND_TRIM: 1 << 5,
  /** WRITE_ZEROES and the NO_HOLE command flag are understood. */
  SEND_WRITE_ZEROES: 1 << 6,
  /** The DF command flag is understood. */
  SEND_DF: 1 << 7,
  /** A flush on one connection covers writes answered on every other. */
  CAN_MULTI_CONN: 1 << 8,
  /** RESIZE is understood (an unfinished extension). */
  SEND_RESIZE: 1 << 9,
  /** CACHE is understood. */
  SEND_CACHE: 1 << 10,
  /** The FAST_ZERO command flag is understood. */
  SEND_FAST_ZERO: 1 << 11,
} as const;

/** Section "Option types". */
export const OPTION = {
  /** Choose an export and start transmission; failure can only be a disconnect. */
  EXPORT_NAME: 1,
  /** End the session politely. */
  ABORT: 2,
  /** Name the listed exports. */
  LIST: 3,
  /** Withdrawn. */
  PEEK_EXPORT: 4,
  /** Switch to TLS. */
  STARTTLS: 5,
  /** Describe an export. */
  INFO: 6,
  /** Describe an export and start transmission. */
  GO: 7,
  /** Replies in chunks from now on. */
  STRUCTURED_REPLY: 8,
  /** Name the metadata contexts that match some queries. */
  LIST_META_CONTEXT: 9,
  /** Choose the metadata contexts that BLOCK_STATUS answers. */
  SET_META_CONTEXT: 10,
  /** 64-bit lengths; this server does not offer them. */
  EXTENDED_HEADERS: 11,
} as const;

const ERROR_REPLY = 2 ** 31;

/** Section "Option reply types"; errors have bit 31 set and carry a message for people. */
export const REPLY = {
  /** The option is done. */
  ACK: 1,
  /** One export of a LIST. */
  SERVER: 2,
  /** One piece of INFO or GO. */
  INFO: 3,
  /** One metadata context. */
  META_CONTEXT: 4,
  /** The option is unknown here. */
  ERR_UNSUP: ERROR_REPLY + 1,
  /** The option is known and not allowed here. */
  ERR_POLICY: ERROR_REPLY + 2,
  /** The option's data is malformed. */
  ERR_INVALID: ERROR_REPLY + 3,
  /** The option is impossible on this platform. */
  ERR_PLATFORM: ERROR_REPLY + 4,
  /** TLS must come first. */
  ERR_TLS_REQD: ERROR_REPLY + 5,
  /** There is no such export. */
  ERR_UNKNOWN: ERROR_REPLY + 6,
  /** The server is going down. */
  ERR_SHUTDOWN: ERROR_REPLY + 7,
  /** The client must ask for block sizes, and keep to them. */
  ERR_BLOCK_SIZE_REQD: ERROR_REPLY + 8,
  /** The option's data is longer than the server takes. */
  ERR_TOO_BIG: ERROR_REPLY + 9,
  /** Extended headers must come first. */
  ERR_EXT_HEADER_REQD: ERROR_REPLY + 10,
} as const;

/** First bit of every error among the option replies. */
export const REPLY_ERROR_BIT = ERROR_REPLY;

/** Section "NBD_OPT_INFO", information types. */
export const INFO = {
  /** Size (64 bits) and transmission flags (16 bits); always sent. */
  EXPORT: 0,
  /** The export's canonical name. */
  NAME: 1,
  /** A description for people. */
  DESCRIPTION: 2,
  /** Minimum, preferred and maximum block size, 32 bits each. */
  BLOCK_SIZE: 3,
} as const;

/** Section "Request types". */
export const COMMAND = {
  /** `length` bytes from `offset`. */
  READ: 0,
  /** `length` bytes of data follow the request. */
  WRITE: 1,
  /** End the session; there is no reply. */
  DISC: 2,
  /** Everything answered before becomes durable. */
  FLUSH: 3,
  /** The range is not needed any more. */
  TRIM: 4,
  /** The range will soon be read. */
  CACHE: 5,
  /** The range must read as zeroes. */
  WRITE_ZEROES: 6,
  /** What the selected metadata contexts say of the range. */
  BLOCK_STATUS: 7,
} as const;

/** Section "Command flags", 16 bits. */
export const COMMAND_FLAG = {
  /** Durable before the reply. */
  FUA: 1 << 0,
  /** WRITE_ZEROES: keep the range allocated. */
  NO_HOLE: 1 << 1,
  /** READ: answer in one chunk. */
  DF: 1 << 2,
  /** BLOCK_STATUS: one extent only. */
  REQ_ONE: 1 << 3,
  /** WRITE_ZEROES: fail at once where zeroing would be as slow as writing. */
  FAST_ZERO: 1 << 4,
} as const;

/** Section "Structured reply flags": this chunk is the last of its reply. */
export const CHUNK_FLAG_DONE = 1 << 0;

/** Section "Structured reply types"; errors have bit 15 set. */
export const CHUNK = {
  /** No data: success. */
  NONE: 0,
  /** Offset (64 bits) and data. */
  OFFSET_DATA: 1,
  /** Offset (64 bits) and length (32 bits) of zeroes. */
  OFFSET_HOLE: 2,
  /** Context id (32 bits), then length and flags (32 bits each) per extent. */
  BLOCK_STATUS: 5,
  /** Error (32 bits), message length (16 bits), message. */
  ERROR: 2 ** 15 + 1,
  /** The same, then the offset (64 bits). */
  ERROR_OFFSET: 2 ** 15 + 2,
} as const;

/** First bit of every error among the chunk types. */
export const CHUNK_ERROR_BIT = 2 ** 15;

/** Section "Error values". */
export const ERRNO = {
  /** Not allowed, such as writing to a read-only export. */
  EPERM: 1,
  /** The export could not do it. */
  EIO: 5,
  /** Out of memory. */
  ENOMEM: 12,
  /** A malformed request, or a read past the end. */
  EINVAL: 22,
  /** No space, or a write past the end. */
  ENOSPC: 28,
  /** The reply would not fit where it must not be cut up. */
  EOVERFLOW: 75,
  /** Not supported, as a fast zero that would be slow. */
  ENOTSUP: 95,
  /** The server is going down. */
  ESHUTDOWN: 108,
} as const;

/** Flags of an extent in `base:allocation`. */
export const STATE = {
  /** Not allocated. */
  HOLE: 1 << 0,
  /** Reads as zeroes. */
  ZERO: 1 << 1,
} as const;

/** Flag of an extent in `qemu:dirty-bitmap:NAME`: it was written. */
export const STATE_DIRTY = 1 << 0;

/** The metadata context that the protocol itself defines. */
export const CONTEXT_ALLOCATION = 'base:allocation';
/** How many layers down the range is allocated; 0 = nowhere. */
export const CONTEXT_ALLOCATION_DEPTH = 'qemu:allocation-depth';
/** In front of a dirty bitmap's name. */
export const CONTEXT_DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:';

/** Port that IANA gave to NBD. */
export const DEFAULT_PORT = 10809;
