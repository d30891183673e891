/** Runs the program on a Node.js that is new enough, with this process's arguments, streams and signals. */
export declare function launch(mainUrl: URL): Promise<void>;
