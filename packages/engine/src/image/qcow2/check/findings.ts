// What a check has found: counted by kind, and told in words as far as there is room.
import { QCOW2_CHECK_FINDINGS_MAX } from '../../../limits.ts';

export class Findings {
  /** Metadata that contradicts itself: data may be lost. */
  corruptions = 0;
  /** Clusters that are counted more often than they are used. */
  leaks = 0;
  /** Parts that could not be checked. */
  checkErrors = 0;
  readonly texts: string[] = [];

  corruption(text: string): void {
    this.corruptions++;
    this.#tell(text);
  }

  leak(text: string): void {
    this.leaks++;
    this.#tell(text);
  }

  checkError(text: string): void {
    this.checkErrors++;
    this.#tell(text);
  }

  #tell(text: string): void {
    if (this.texts.length < QCOW2_CHECK_FINDINGS_MAX) this.texts.push(text);
  }
}
