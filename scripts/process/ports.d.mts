/** Whether the TCP port of 127.0.0.1 can be bound. */
export declare function isFree(port: number): Promise<boolean>;
/** A TCP port of 127.0.0.1 that was free a moment ago. */
export declare function freePort(): Promise<number>;
