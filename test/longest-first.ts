// The order of test files: the longest begin first, so that no worker waits at the end for one of them.
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** 40 s or more each, the longest first. Many are short files, which Vitest would begin last on a fresh clone. */
const longest = [
  ...['quickstart', 'conformance', 'policy-fuzz', 'example-chat', 'edits', 'examples', 'recipes'],
  ...['page-choice', 'clients/clients', 'cli-plan', 'serve-config/hangup', 'recall', 'eval'],
  ...['server-template', 'server-process', 'verify', 'server-batches-process', 'page-sources'],
  ...[
    'serve-access',
    'train',
    'prefix-cache',
    'packages',
    'policy-wall',
    'init',
    'profile',
    'report',
  ],
  'serve-lost',
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
