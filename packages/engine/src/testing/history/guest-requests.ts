// The guest of a history: its requests that are under way, and whether each ends as it may (INV-9: it reaches
// the disk before it is told to be done).
import type { Attachment } from '../../graph/attachment.ts';
import type { Pending } from '../../pending.ts';
import type { ReadStep } from './copying.ts';
import type { GateRequest } from './gate-node.ts';
import type { GuestStep } from './history.ts';
import type { Model } from './model.ts';
import type { Verdict } from './verdict.ts';

interface Request {
  readonly step: GuestStep | ReadStep;
  reached: 'no' | 'arrived' | 'done';
}

export interface GuestOptions {
  readonly attachment: Attachment;
  readonly model: Model;
  readonly verdict: Verdict;
  /** Something went wrong that a guest may be told of. */
  readonly mayFail: () => boolean;
}

const OPERATIONS = { write: 'write', zero: 'writeZeroes', unmap: 'writeZeroes', discard: 'discard' } as const;

export class GuestRequests {
  readonly #options: GuestOptions;
  readonly #requests = new Set<Request>();

  constructor(options: GuestOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#requests.size;
  }

  /** Changes that have reached the disk and are not done. */
  get underWay(): { offset: number; length: number }[] {
    return [...this.#requests].filter(({ reached }) => reached === 'arrived').map(({ step }) => step);
  }

  /** Left out where it overlaps with one under way: which comes last is then nobody's promise. */
  begin(step: GuestStep | ReadStep): void {
    for (const { step: other } of this.#requests) {
      if (step.offset < other.offset + other.length && other.offset < step.offset + step.length) return;
    }
    const request: Request = { step, reached: 'no' };
    this.#requests.add(request);
    const buffer = Buffer.alloc(step.length, 'read' in step ? 0 : step.byte);
    const ended = (failed: boolean): void => {
      this.#requests.delete(request);
      this.#judge(request, buffer, failed);
    };
    const done = (): void => ended(false);
    const failed = (): void => ended(true);
    try {
      const pending = this.#submit(step, buffer);
      if (pending === undefined) done();
      else pending.then(done, failed);
    } catch {
      failed();
    }
  }

  /** A change reaches the disk. */
  arrived(request: GateRequest): void {
    const { model, verdict } = this.#options;
    const { operation, offset, length, buffer } = request;
    const found = [...this.#requests].find(
      ({ step, reached }) =>
        !('read' in step) &&
        reached === 'no' &&
        OPERATIONS[step.guest] === operation &&
        step.offset === offset &&
        step.length === length,
    );
    if (found === undefined) verdict.report(9, `${operation} of ${length} bytes at ${offset} is no guest's`);
    else found.reached = 'arrived';
    if (buffer !== undefined && found !== undefined && buffer[0] !== (found.step as GuestStep).byte) {
      verdict.report('model', `the guest's bytes at ${offset} reach the disk as others`);
    }
    model.touch(request);
  }

  /** It was done there, or failed without effect. */
  ended(request: GateRequest, failed: boolean): void {
    if (failed) return;
    const found = [...this.#requests].find(
      ({ step, reached }) => reached === 'arrived' && step.offset === request.offset,
    );
    if (found === undefined) return;
    found.reached = 'done';
    this.#options.model.fill(found.step as GuestStep);
  }

  #submit(step: GuestStep | ReadStep, buffer: Buffer): Pending {
    const { attachment } = this.#options;
    if ('read' in step) return attachment.read(step.offset, buffer);
    switch (step.guest) {
      case 'write':
        return attachment.write(step.offset, buffer);
      case 'discard':
        return attachment.discard(step.offset, step.length);
      default:
        return attachment.writeZeroes(step.offset, step.length, { mayUnmap: step.guest === 'unmap' });
    }
  }

  #judge({ step, reached }: Request, buffer: Buffer, failed: boolean): void {
    const { model, verdict, mayFail } = this.#options;
    const what = `the guest's ${'read' in step ? 'read' : step.guest} at ${step.offset}`;
    if (failed) {
      if (!mayFail()) verdict.report('model', `${what} fails without a reason`);
      return;
    }
    if (!('read' in step)) {
      if (reached !== 'done') verdict.report(9, `${what} is told to be done and never reached the disk`);
      return;
    }
    if (!buffer.equals(model.bytes.subarray(step.offset, step.offset + step.length))) {
      verdict.report('model', `${what} sees other bytes than the disk has`);
    }
  }
}
