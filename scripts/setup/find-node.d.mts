export declare const NODE_MAJOR_MIN: number;
export declare const rootFolder: string;
export declare const runtimeFolder: string;
export declare function ownNodeIsEnough(): boolean;
export declare function runtimeNode(): string;
export declare function findNode(): string | null;
