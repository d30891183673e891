// What a block device driver is to the monitor: its name, its options, its children, and how to open it. One
// file a driver; the table of all of them is drivers.ts.
import type { BlockNode, ChildPermissions, Edge, GraphNode, OpeningNode } from '@tidemark/engine';
import type { z } from 'zod';
import type { StorageDaemon } from '../qmp/storage-daemon.ts';
import type { BlockdevOptions, CommonOptions } from './options.ts';

export interface BlockdevChild {
  readonly role: 'file' | 'backing' | 'target' | 'image';
  readonly required: boolean;
  /** QAPI's `BlockdevRefOrNull`: `null` says that there is to be none. */
  readonly nullable?: boolean;
  /** Opened by the driver itself, which finds it in the image. */
  readonly openedByDriver?: boolean;
}

/** A block node that was opened by its options, with what is needed to describe and to change it. */
export interface Blockdev<Options = Record<string, unknown>> {
  readonly node: GraphNode;
  readonly definition: BlockdevDriver;
  readonly driver: BlockNode;
  /** The driver's own. */
  readonly options: Options;
  readonly common: CommonOptions;
  /** All of them, as they were given. */
  readonly given: BlockdevOptions;
}

export interface OpenContext<Options> {
  /** The driver's own, checked by its schema. */
  readonly options: Options;
  /** By role. */
  readonly children: Readonly<Record<string, Edge>>;
  readonly readOnly: boolean;
  readonly nodeName: string;
  readonly common: CommonOptions;
  readonly host: StorageDaemon;
  readonly opening: OpeningNode;
  /** Opens or finds one more child, which goes with this block node where it was opened. */
  openChild(role: string, reference: string | BlockdevOptions): Promise<Edge>;
}

/** A change that can take place at once or not at all. Neither may fail. */
export interface PreparedReopen {
  /** To be used from `commit` on instead of the old one, which is just dropped. */
  readonly driver?: BlockNode;
  commit(): void;
  abort(): void | Promise<void>;
}

export interface ReopenContext<Options> {
  readonly blockdev: Blockdev<Options>;
  /** The new ones. */
  readonly options: Options;
  readonly readOnly: boolean;
  readonly common: CommonOptions;
  readonly host: StorageDaemon;
}

export interface BlockdevDriver<Options = Record<string, unknown>> {
  readonly name: string;
  /** Own options only, without children and those that every driver has. */
  readonly options: z.ZodObject;
  /** By option key, in QAPI's order. */
  readonly children: Readonly<Record<string, BlockdevChild>>;
  readonly permissions: ChildPermissions;
  /** Where they depend on the options. */
  permissionsFor?(options: Options): ChildPermissions;
  /** Rejects with an EngineError in QEMU's words. */
  open(context: OpenContext<Options>): Promise<BlockNode>;
  /** Before anything changes: writes down what could not be written afterwards. */
  settle?(blockdev: Blockdev<Options>): Promise<void>;
  /** Own options that stay as they are for ever. */
  readonly fixedOptions?: readonly (string & keyof Options)[];
  /** Without it, own options cannot be changed. Rejects with nothing changed. */
  reopen?(context: ReopenContext<Options>): Promise<PreparedReopen> | PreparedReopen;
  /** It is the bytes' own place: an image over it may go by its file name. */
  readonly protocol?: boolean;
  /** What `query-named-block-nodes` calls `filename`; default: as the `file` child, or the options. */
  filename?(options: Options, childFilename: string | undefined): string | undefined;
  /** The backing image that the image itself names. */
  backingName?(blockdev: Blockdev<Options>): string | undefined;
  /** Own options that make it another disk than its file: told in a `json:` file name. */
  readonly strongOptions?: readonly (string & keyof Options)[];
  /** More members of `image`. */
  describeImage?(blockdev: Blockdev<Options>, host: StorageDaemon): Record<string, unknown>;
}

/** Keeps the type of the options together with the code that uses them. */
export function defineDriver<Schema extends z.ZodObject>(
  driver: Omit<BlockdevDriver<z.output<Schema>>, 'options'> & { readonly options: Schema },
): BlockdevDriver {
  return driver as unknown as BlockdevDriver;
}
