// The order of test files: the longest begin first, so that no worker waits at the end for one of them.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Minutes each, the longest first. Many are short files, which Vitest would begin late on a fresh clone. */
const longest = [
  ...['quickstart', 'conformance', 'verify', 'eval', 'serve-config/hangup', 'recipes', 'recall'],
  ...['train', 'example-chat', 'profile', 'report', 'memory', 'clients/clients', 'server-process'],
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const long = longest.flatMap((name) =>
      sorted.filter(({ moduleId }) => moduleId.endsWith(`/test/${name}.test.ts`)),
    );
    return [...long, ...sorted.filter((file) => !long.includes(file))];
  }
}
