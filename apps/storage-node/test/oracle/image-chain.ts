// What scenarios about chains of images share: images on top of one another, their block nodes, and what the files say
// of their backing images afterwards.
import type { QmpEventMessage } from './qmp-client.ts';
import type { Session } from './session.ts';

export interface Layer {
  readonly name: string;
  /** Default: qcow2. */
  readonly format?: 'raw' | 'qcow2';
  /** Default: 2M. */
  readonly size?: string;
  /** qemu-io commands that fill it before it is opened. */
  readonly data?: readonly string[];
  readonly readOnly?: boolean;
  /** Options of a blkdebug node between the image and its file. */
  readonly fault?: object;
  /** For `-o`. */
  readonly create?: string;
  /** More options of the block node. */
  readonly more?: object;
}

const KINDS = { raw: 'raw', qcow2: 'qcow2' } as const;

/** Makes the images, the lowest first, each on the one before it. */
export async function makeChain(s: Session, layers: readonly Layer[]): Promise<void> {
  for (const [index, { name, format = KINDS.qcow2, size = '2M', data = [], create }] of layers.entries()) {
    const below = layers[index - 1];
    await s.image(name, {
      format,
      size,
      ...(create === undefined ? {} : { options: create }),
      ...(below && { backing: below.name, backingFormat: below.format ?? 'qcow2' }),
    });
    const commands = data.flatMap(command => ['-c', command]);
    if (commands.length > 0) await s.peek('qemu-io', '-f', format, ...commands, s.path(name));
  }
}

/** Opens the images as block nodes of their names, each standing on the one before it. */
async function openChain(s: Session, layers: readonly Layer[]): Promise<void> {
  for (const [index, { name, format = KINDS.qcow2, readOnly, fault, more }] of layers.entries()) {
    const image = { driver: 'file', filename: s.path(name) };
    await s.add({
      driver: format,
      'node-name': name,
      ...(readOnly && { 'read-only': true }),
      file: fault === undefined ? image : { driver: 'blkdebug', image, ...fault },
      ...(index > 0 && { backing: layers[index - 1]!.name }),
      ...more,
    });
  }
}

export async function newChain(s: Session, layers: readonly Layer[]): Promise<void> {
  await makeChain(s, layers);
  await openChain(s, layers);
}

/** F040: a raw base, and two images on it, the upper one empty. */
export const F040: readonly Layer[] = [
  { name: 'base', format: 'raw', data: ['write -q -P 0xab 0 512k'] },
  { name: 'mid', data: ['write -q -P 0xef 512k 512k'] },
  { name: 'top' },
];

export const F040_CONTENTS = ['read -P 0xab 0 512k', 'read -P 0xef 512k 512k', 'read -P 0 1M 1M'];

export const startCommit = (s: Session, args: object): Promise<unknown> =>
  s.ok('block-commit', { 'job-id': 'job0', device: 'top', ...args });
export const startStream = (s: Session, args: object): Promise<unknown> =>
  s.ok('block-stream', { 'job-id': 'job0', device: 'top', ...args });
export const startMirror = (s: Session, args: object): Promise<unknown> =>
  s.ok('blockdev-mirror', { 'job-id': 'job0', device: 'source', target: 'target', sync: 'full', ...args });

export function jobReady(s: Session, id = 'job0'): Promise<QmpEventMessage> {
  return s.event('BLOCK_JOB_READY', { device: id });
}

/** Waits until no job is left. */
export function noJobs(s: Session): Promise<void> {
  return s.until('the end of all jobs', async () => (await s.ask<unknown[]>('query-jobs')).length === 0);
}

interface NodeFacts {
  readonly 'node-name': string;
  readonly drv: string;
  readonly ro: boolean;
  readonly file: string;
  readonly backing_file?: string;
  readonly backing_file_depth: number;
  readonly image: Record<string, unknown>;
}

/** The block nodes that are there, with what they stand on; traced. */
export async function lookAtNodes(s: Session): Promise<void> {
  const nodes = await s.ask<NodeFacts[]>('query-named-block-nodes');
  s.note(
    'block nodes',
    nodes
      .filter(({ drv }) => drv !== 'file')
      .map(({ image, ...node }) => [
        node['node-name'],
        node.drv,
        node.ro,
        shortened(node.file),
        shortened(node.backing_file),
        node.backing_file_depth,
        image['virtual-size'],
        shortened(image['backing-filename'] as string | undefined),
        image['backing-filename-format'],
      ]),
  );
}

/** QEMU writes lists of rules in an order of its own. */
function shortened(filename: string | undefined): string | undefined {
  return filename?.includes('inject-error') ? 'json:…' : filename;
}

/** What the header in the file says; traced. */
export async function lookAtHeader(s: Session, name: string): Promise<void> {
  const { stdout } = await s.peek('qemu-img', 'info', '-U', '--output=json', '-f', 'qcow2', s.path(name));
  const info = JSON.parse(stdout) as Record<string, unknown>;
  s.note(`header of ${name}`, {
    size: info['virtual-size'],
    backing: info['backing-filename'],
    format: info['backing-filename-format'],
  });
}

/** Closes the block nodes, the topmost first; their guests have to be gone. */
export async function closeNodes(s: Session, ...names: string[]): Promise<void> {
  for (const name of names) await s.ok('blockdev-del', { 'node-name': name });
}

/** Whether the image is in order, and what its whole chain reads as; traced. */
export async function checkFiles(s: Session, ...names: string[]): Promise<void> {
  for (const name of names) await s.tool('qemu-img', 'check', '-q', '-U', '-f', 'qcow2', s.path(name));
}
