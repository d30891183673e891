// A vitest reporter that counts: tests, files that could not be loaded, errors that no test caught. Each
// skipped test is kept with the reason it gave.

import { relative } from 'node:path';
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node';
import { emptyOutcome, type Outcome } from './outcome.ts';

export class SummaryReporter implements Reporter {
  readonly #rootFolder: string;
  #outcome: Outcome = emptyOutcome();

  constructor(rootFolder: string) {
    this.#rootFolder = rootFolder;
  }

  /** Complete once the run has ended. */
  get outcome(): Outcome {
    return this.#outcome;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const outcome = emptyOutcome();
    outcome.failed += unhandled.length;
    for (const module of modules) {
      const file = relative(this.#rootFolder, module.moduleId);
      const tests = [...module.children.allTests()];
      for (const test of tests) count(outcome, test, file);
      const suiteErrors = [...module.children.allSuites()].reduce(
        (sum, suite) => sum + suite.errors().length,
        0,
      );
      const errors = module.errors().length + suiteErrors;
      outcome.failed += errors;
      if (tests.length === 0 && errors === 0) outcome.failed += 1; // a test file without a test tests nothing
    }
    this.#outcome = outcome;
  }
}

function count(outcome: Outcome, test: TestCase, file: string): void {
  const result = test.result();
  if (result.state === 'passed') outcome.passed += 1;
  else if (result.state === 'failed') outcome.failed += 1;
  else outcome.skipped.push(`${file}: ${test.fullName} (${reasonOf(result)})`);
}

function reasonOf(result: ReturnType<TestCase['result']>): string {
  if (result.state === 'pending') return 'did not run: the run was cut short';
  return (result.state === 'skipped' && result.note) || 'no reason given';
}
