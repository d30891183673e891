export declare function processStartTime(pid: number): string | null;
export declare function isAlive(pid: number): boolean;
export declare function processArguments(pid: number): string[];
export declare function processVariable(pid: number, name: string): string | null;
export declare function waitForEnd(pid: number, timeoutMs: number): Promise<boolean>;
export declare function signalProcess(pid: number, signal: NodeJS.Signals): void;
