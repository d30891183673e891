// Scenarios that no daemon of QEMU's can play, or that cannot be seen from outside: each with the test that
// shows it.

export interface ProvenByTest {
  readonly id: string;
  readonly title: string;
  /** From the root of the project. */
  readonly file: string;
  /** A part of the file: the test's name. */
  readonly name: string;
}

export const provenByTests: readonly ProvenByTest[] = [];
