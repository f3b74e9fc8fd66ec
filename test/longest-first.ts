// The order of test files: the longest begin first, so that no worker waits at the end for one of them.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Minutes each, but short files, which Vitest would begin last on a fresh clone. */
const longest = ['quickstart', 'example-chat', 'clients/clients', 'memory', 'profile'];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const long = ({ moduleId }: TestSpecification): boolean =>
      longest.some((name) => moduleId.endsWith(`/test/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(long), ...sorted.filter((file) => !long(file))];
  }
}
