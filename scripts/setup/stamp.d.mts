export declare function readStamp(root: string): Record<string, string>;
export declare function writeStamp(root: string, step: string, fingerprint: string): void;
export declare function fingerprint(paths: string[]): string;
export declare function dependenciesMatch(root: string): boolean;
