// A folder in which the blocks of one page run: the models, checkpoints and texts that pages name, all of them small.
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { transform } from 'esbuild';
import { packageRoot } from '../../src/paths.ts';
import type { DocBlock } from './blocks.ts';

/** Names that pages use for a model, and for a checkpoint with a contract. */
const MODELS = ['MODEL', 'models/my-model', 'models/smollm2', 'some/checkpoint'];
const CHECKPOINTS = ['DIR', 'runs/shakespeare', 'runs/mine'];
const PLAY = 'A room.\n\nTo be, or not to be. That is the question.\n\nSoft you now.\n\n';
const FILES: Readonly<Record<string, string>> = {
  'package.json': '{"type": "module"}',
  'text.txt': PLAY,
  'play.txt': PLAY,
  'texts/one.txt': PLAY,
  'held-out.txt': PLAY,
  'chats.jsonl': `${JSON.stringify({ messages: ['user', 'assistant'].map((role) => ({ role, content: 'Hi.' })) })}\n`,
  'my_module.py': 'def add(a, b):\n    return a + b\n',
};

/** Names that excerpts use and do not declare: as values, and as types where the block is only checked. */
const NAMES: Readonly<Record<string, { value?: string; type: string }>> = {
  tokens: { value: '[1, 2, 3]', type: 'number[]' },
  prompt: { value: '[1, 2, 3]', type: 'number[]' },
  controller: { value: 'new AbortController()', type: 'AbortController' },
  python: {
    value: "await (await import('PACKAGE/dist/bridge/index.js')).findPython({ modules: [] })",
    type: "Awaited<ReturnType<typeof import('PACKAGE/dist/bridge/index.js').findPython>>",
  },
  dir: { type: 'string' },
  engine: { type: "import('lockstep').Engine" },
  tokenizer: { type: "import('lockstep').Tokenizer" },
  contract: { type: "Awaited<ReturnType<typeof import('lockstep').readContract>>" },
};

export interface Program {
  /** Absolute path of the file. */
  file: string;
  at: string;
  run: boolean;
  /** What makes its default export: `defineConfig`, `defineServe`. */
  made: string | undefined;
}

export interface PageFolder {
  folder: string;
  programs: Program[];
}

/**
 * Make the folder, and write the page's TypeScript and Python blocks as files: under the name that the first line gives
 * (`// speeches.ts`, `# my_job.py`), or one by the block's line.
 */
export async function pageFolder(
  folder: string,
  blocks: readonly DocBlock[],
  model: string,
  checkpoint: string,
  config: string,
): Promise<PageFolder> {
  mkdirSync(path.join(folder, 'node_modules'), { recursive: true });
  const write = (name: string, text: string): string => {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  };
  symlinkSync(packageRoot, path.join(folder, 'node_modules', 'lockstep'));
  symlinkSync(
    path.join(packageRoot, 'node_modules', '@types'),
    path.join(folder, 'node_modules', '@types'),
  );
  // The config's model, and what blocks that run name: `lockstep init` looks for the only model and the only data.
  const ran = blocks.filter(({ kind }) => kind === 'run').map(({ text }) => text);
  const named = (name: string) => ran.some((text) => text.includes(name));
  const made = named('--out DIR');
  for (const name of MODELS) {
    if (name === 'models/my-model' || named(name))
      cpSync(model, path.join(folder, name), { recursive: true });
  }
  for (const name of CHECKPOINTS) {
    if (named(name) && !(name === 'DIR' && made))
      cpSync(checkpoint, path.join(folder, name), { recursive: true });
  }
  for (const [name, text] of Object.entries(FILES)) {
    if (!/\.(txt|jsonl)$/.test(name) || named(name)) write(name, text);
  }
  cpSync(
    path.join(packageRoot, 'examples/measured-heads/heads.json'),
    path.join(folder, 'heads.json'),
  );
  const programs: Program[] = [];
  for (const block of blocks.filter(({ language }) => language === 'ts')) {
    const own = /^\/\/ ([\w.-]+\.ts)\n/.exec(block.text)?.[1];
    const name =
      own !== undefined && !existsSync(path.join(folder, own))
        ? own
        : `line-${block.at.split(':')[1]}.ts`;
    const text = await program(block);
    programs.push({
      file: write(name, text),
      at: block.at,
      run: block.kind === 'run',
      made: /export default (define\w+)\(/.exec(text)?.[1],
    });
  }
  for (const { language, text } of blocks) {
    const own = /^# (\w+\.py)\n/.exec(text)?.[1];
    if (language === 'python' && own !== undefined) write(own, text);
  }
  if (!existsSync(path.join(folder, 'lockstep.config.ts'))) write('lockstep.config.ts', config);
  return { folder, programs };
}

/** A block as a module of its own: fields become a config, names that it takes for granted are added. */
async function program({ text, kind }: DocBlock): Promise<string> {
  if (/^import /m.test(text) && !Object.keys(NAMES).some((name) => missing(text, name)))
    return text;
  const parses = await transform(text, { loader: 'ts', logLevel: 'silent' }).then(
    () => !/^\w+: \{/.test(text),
    () => false,
  );
  if (!parses) {
    return `import { defineConfig, fixed } from 'lockstep';
export default defineConfig({ model: 'm', out: 'o', policy: fixed({ size: 8 }), segment: { max: 64 }, carry: { size: 8 },
${text}});\n`;
  }
  const lines: string[] = [];
  if (!/^import /m.test(text)) {
    for (const from of ['lockstep', `${packageRoot}/dist/bridge/index.js`]) {
      const module = (await import(
        from === 'lockstep' ? `${packageRoot}/dist/index.js` : from
      )) as object;
      const used = Object.keys(module).filter((name) => missing(text, name));
      if (used.length > 0) lines.push(`import { ${used.join(', ')} } from '${from}';`);
    }
  }
  for (const [name, { value, type }] of Object.entries(NAMES)) {
    if (!missing(text, name)) continue;
    if (kind === 'run' && value === undefined) throw new Error(`a block that runs needs ${name}`);
    lines.push(kind === 'run' ? `const ${name} = ${value};` : `declare const ${name}: ${type};`);
  }
  return `${lines.join('\n').replaceAll('PACKAGE', packageRoot)}\n${text}export {};\n`;
}

/** Whether the code uses `name` as a variable without declaring it. */
function missing(text: string, name: string): boolean {
  const code = text.replace(/\/\/.*$/gm, '').replace(/'[^']*'/g, "''");
  const used = new RegExp(`(?<![\\w.])${name}(?!\\w|:)`).test(code);
  return (
    used &&
    !new RegExp(`(const|let|function) ${name}\\b|\\(${name}\\) =>|import [^;]*\\b${name}\\b`).test(
      code,
    )
  );
}

/** The text of a file in a page's folder. */
export const read = (folder: string, name: string): string =>
  readFileSync(path.join(folder, name), 'utf8');
