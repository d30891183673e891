// The `compress` driver: whatever is written through it is stored compressed, where the image can.
import { EngineError } from '../errors.ts';
import type { BlockNode } from '../node/block-node.ts';
import type { Pending } from '../pending.ts';
import { PassThrough } from './pass-through.ts';

export class Compress extends PassThrough {
  readonly driver = 'compress';

  /** Throws kind `unsupported` where the image below cannot compress. */
  constructor(file: BlockNode) {
    super(file);
    if (file.canCompress === true && file.clusterSizeBytes !== undefined) return;
    throw new EngineError(
      'unsupported',
      `Compression is not supported for underlying format: ${file.driver}`,
      {
        op: 'open',
        hint: 'Put the filter above a qcow2 image.',
      },
    );
  }

  /** Requests below a cluster cannot be compressed: whoever can choose writes whole clusters. */
  override write(offset: number, buffer: Buffer): Pending {
    const cluster = this.clusterSizeBytes!;
    const wholeEnd = offset + buffer.length;
    const aligned = offset % cluster === 0 && (wholeEnd % cluster === 0 || wholeEnd === this.sizeBytes);
    return aligned ? this.child.writeCompressed!(offset, buffer) : this.child.write(offset, buffer);
  }
}
