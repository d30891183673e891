// Names of block nodes: which are allowed, which are taken, and those that the graph makes up.
import { EngineError } from '../errors.ts';
import { NODE_NAME_BYTES_MAX } from '../limits.ts';

/** QEMU's rule for ids: a letter, then letters, digits, and `-._`. */
const WELL_FORMED = /^[a-zA-Z][a-zA-Z0-9_.-]*$/;

/** For names that users choose. Throws kind `invalid-argument`. */
export function assertNodeName(name: string): void {
  if (!WELL_FORMED.test(name)) {
    const hint = "Names start with a letter and have letters, digits, '-', '.' and '_'.";
    throw new EngineError('invalid-argument', `Invalid node-name: '${name}'`, { node: name, hint });
  }
  if (name.length <= NODE_NAME_BYTES_MAX) return;
  const hint = `At most ${NODE_NAME_BYTES_MAX} characters are allowed.`;
  throw new EngineError('invalid-argument', 'Node name too long', { node: name, hint });
}

export class NodeNames {
  readonly #taken: (name: string) => boolean;
  /** Of nodes that are just being opened. */
  readonly #reserved = new Set<string>();
  #generated = 0;
  #sequence = 0;

  constructor(taken: (name: string) => boolean) {
    this.#taken = taken;
  }

  nextSequence(): number {
    return ++this.#sequence;
  }

  /** Throws kind `exists`. */
  assertFree(name: string): void {
    if (!this.#taken(name) && !this.#reserved.has(name)) return;
    const hint = 'Choose another name, or remove that block node first.';
    throw new EngineError('exists', `Duplicate nodes with node-name='${name}'`, { node: name, hint });
  }

  /** Returns the function that gives the name free again, which does no harm once the node is there. */
  reserve(name: string): () => void {
    this.assertFree(name);
    this.#reserved.add(name);
    return () => this.#reserved.delete(name);
  }

  /** No user can choose such a name. */
  generate(): string {
    return `#block${String(++this.#generated).padStart(3, '0')}`;
  }
}
