// What the tests do with each code block of the documentation. The info string says it: a language, then
// perhaps `no-run`, as in rustdoc. GitHub and VitePress highlight by the first word and ignore the rest.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';
import { type CodeBlock, documentation } from './markdown.ts';

/**
 * `run`: run, or parsed where there is nothing to run (JSON, YAML). `checked`: marked `no-run`; TypeScript is checked
 * against the package's types, Python parsed, shell commands compared with the options. `text`: no code.
 * `elsewhere`: another test file runs it.
 */
export type Kind = 'run' | 'checked' | 'text' | 'elsewhere';

export interface DocBlock extends CodeBlock {
  file: string;
  kind: Kind;
}

/** Shell blocks that another test file reads from the page and runs. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  'docs/other-tools.md': 'test/packages.test.ts',
  'examples/custom-policy/README.md': 'test/examples.test.ts',
  'examples/library/README.md': 'test/examples.test.ts',
  'examples/measured-heads/README.md': 'test/examples.test.ts',
  'examples/npm-training/README.md': 'test/examples.test.ts',
};

const CODE = ['sh', 'ts', 'python'];
const DATA = ['json', 'yaml'];

/** The kind of a block, or what is wrong with its info string. */
export function kindOf(file: string, info: string, text: string): Kind | { problem: string } {
  const [language = '', ...marks] = info.split(/\s+/).filter(Boolean);
  if (language === '') return { problem: 'name a language; `text` is for output and drawings' };
  if (language === 'text') {
    const command = /^\s*(\$ |(npx )?lockstep (?!─)|npm |curl |import )/m.exec(text);
    if (command !== null) return { problem: `is code, not text: ${command[0].trim()}` };
    return marks.length === 0 ? 'text' : { problem: `text takes no mark, got ${marks.join(' ')}` };
  }
  if (![...CODE, ...DATA].includes(language)) {
    return { problem: `no test knows the language ${language}: ${[...CODE, ...DATA, 'text']}` };
  }
  if (marks.length === 0) {
    return language === 'sh' && ELSEWHERE[file] !== undefined ? 'elsewhere' : 'run';
  }
  if (marks.length > 1 || marks[0] !== 'no-run') {
    return { problem: `expected no mark or no-run, got ${marks.join(' ')}` };
  }
  return CODE.includes(language) ? 'checked' : { problem: `${language} is parsed: no mark` };
}

/** All blocks of the documentation, and what is wrong with those of no kind. */
export function documentationBlocks(): { blocks: DocBlock[]; problems: string[] } {
  const blocks: DocBlock[] = [];
  const problems: string[] = [];
  for (const page of documentation()) {
    for (const block of page.blocks) {
      const kind = kindOf(page.file, block.info, block.text);
      if (typeof kind === 'string') blocks.push({ ...block, file: page.file, kind });
      else problems.push(`${block.at}: ${kind.problem}`);
    }
  }
  return { blocks, problems };
}

/** Pages of which another test is said to run blocks, and does not name the page. */
export function notRunElsewhere(): string[] {
  return Object.entries(ELSEWHERE)
    .filter(([file, test]) => {
      const source = readFileSync(path.join(packageRoot, test), 'utf8');
      const example = /^examples\/([^/]+)/.exec(file)?.[1];
      return !source.includes(example === undefined ? file : `readmeCommands('${example}')`);
    })
    .map(([file, test]) => `${test} does not run ${file}`);
}
