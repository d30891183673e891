export interface PostgresOptions {
  /** Made on first use; its parents as well. */
  dataDir: string;
  /** TCP port on 127.0.0.1. Without it: the port of the last start when that is free, else any free one. */
  port?: number;
  /** The superuser of a new cluster. */
  user: string;
  /** Password of a new cluster's superuser; an existing cluster keeps its own. */
  password: string;
  /** Database made with a new cluster and named by `url`. Default `tidemark`. */
  database?: string;
  /** Default 200: two services with a queue each take about 15 connections a process. */
  maxConnections?: number;
  /** Of its processes, beside what they need. */
  environment?: NodeJS.ProcessEnv;
  /** File that PostgreSQL's messages are appended to. Default: the data directory's path with `.log`. */
  log?: string;
}

export interface EmbeddedPostgres {
  /** `postgres://user:password@127.0.0.1:port/database` */
  url: string;
  port: number;
  pid: number;
  /** What stood in this start's way: nothing, a pid file that named nobody, or an orphan, now shut down. */
  recovered: 'free' | 'stale' | 'stopped';
  /** Resolves when the server has ended, asked for or not. */
  exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Fast shutdown; resolves when the process has ended. May be called again. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL on the data directory and resolves when it accepts connections. Rejects when another live
 * process has started one there, when the given port is taken, or when root's stand-in user cannot reach the
 * directory.
 */
export declare function startPostgres(options: PostgresOptions): Promise<EmbeddedPostgres>;
