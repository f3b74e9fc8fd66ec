// docs/errors.md: every code, what it says and how to fix it, from the places that make the errors.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Python } from '../../src/bridge/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { type ErrorText, errorTexts } from './error-texts.ts';
import { readTypeScript } from './typescript-sources.ts';

const page = path.join(packageRoot, 'docs', 'errors.md');

/** Sections of the page, in order, with what follows `LS_` in their codes. */
const AREAS: [string, string[]][] = [
  [
    'Commands and configuration',
    ['USAGE', 'CANCELLED', 'CONFIG', 'QUICKSTART', 'ENDED', 'OUTPUT', 'INTERNAL'],
  ],
  ['Policies and plans', ['POLICY', 'PLAN']],
  ['Contracts', ['CONTRACT', 'ATTACH', 'DETACH', 'UPGRADE', 'CHECKPOINT', 'SPEC']],
  ['Models and weights', ['MODEL', 'WEIGHTS', 'ROPE', 'DEVICE', 'TRANSFORMERS']],
  ['The operator', ['RETRIEVAL', 'STATE', 'BOUNDARIES', 'TOKENS', 'TRAINING']],
  ['Texts, tokenizers and chat templates', ['TOKENIZER', 'TOKEN', 'TEMPLATE', 'TEXT']],
  ['Training and its data', ['INIT', 'BOS', 'TRAIN', 'TRL']],
  ['Adapters', ['ADAPTER']],
  ['Choosing heads', ['PROFILE', 'RECALL']],
  ['Export and engines', ['EXPORT', 'ENGINE']],
  ['Serving', ['SERVE']],
  ['Keys of clients and the audit log', ['KEYS', 'AUDIT']],
  ['Batches', ['BATCH']],
  ['Structured output', ['FORM']],
  ['vLLM', ['VLLM']],
  ['Verify and the probe', ['VERIFY', 'PROBE']],
  ['Evaluation and reports', ['EVAL', 'LM', 'PERPLEXITY', 'REPORT']],
  ['Python processes', ['PYTHON', 'JOB', 'RPC', 'DISK']],
  ['Set-up and scripts of a clone', ['SETUP', 'TEST', 'BENCH']],
  ['Other', []],
];

/** What it means where the whole message is made at run time. */
const CAUSES: Record<string, string> = {
  LS_CONFIG_SYNTAX:
    'The config cannot be parsed. The message gives the file, the line and the error.',
  LS_INTERNAL:
    'Lockstep failed in a way that it does not expect. The message is that of the exception.',
  LS_POLICY_BUNDLE:
    'The policy or a module that it imports cannot be bundled. The message gives the file, the line and the error.',
  LS_PYTHON_FAILED:
    'Python raised an exception that Lockstep does not expect. The message gives its type and its text.',
  LS_SERVE_CONFIG:
    'Fields of `serve.config.ts` are unknown, missing or have a wrong value. The message names each of them.',
  LS_SERVE_OPTION:
    'Options of a model in `serve.config.ts` do not fit together. The message names the model and the option.',
  LS_TRAIN_CHANCE:
    'The first loss is worse than guessing. The tokenizer may belong to another model, or weights may be damaged.',
  LS_TRAIN_TOKENIZER:
    'The tokenizer of the model to train cannot be read. The message names the file and the error.',
  LS_TRAIN_WORKER:
    'A worker process that prepares sequences ended. The training process prepares them itself from then on.',
};

const HEAD = `# Errors

Every error of Lockstep has a code that stays the same from version to version, one sentence that says what was
expected and what was found, and a fix. The command line prints them like this:

\`\`\`text
error LS_CONFIG_MISSING: expected a config file, got none at lockstep.config.ts
fix: Create it with lockstep init, or name another one with --config.
\`\`\`

In TypeScript and Python both are a \`LockstepError\` with \`code\`, \`message\`, \`fix\` and, where one field
is to blame, \`field\`. \`LOCKSTEP_DEBUG=1\` also prints the stack trace.

This page lists every code: search it for yours. \`…\` stands for a value. The page is made from the source:
\`LOCKSTEP_UPDATE_DOCS=1\` before \`npx vitest run test/docs.test.ts\` writes it again.
`;

/** What every place in both languages can say. */
export async function allErrors(python: Python): Promise<ErrorText[]> {
  const reading = sources(['src', 'scripts'], /\.(ts|js|mjs)$/).map((file) =>
    readTypeScript(path.join(packageRoot, file), file),
  );
  const folder = path.join(packageRoot, 'python', 'lockstep');
  const script = path.join(import.meta.dirname, 'python_sources.py');
  const printed = execFileSync(python.executable, [script, folder, 'python/lockstep'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  return [...errorTexts(await Promise.all(reading)), ...errorTexts(JSON.parse(printed))];
}

/** Source files in these folders, without their tests; relative to the package. */
export function sources(folders: readonly string[], name: RegExp): string[] {
  return folders.flatMap((folder) =>
    readdirSync(path.join(packageRoot, folder), { recursive: true })
      .map((file) => `${folder}/${String(file).replaceAll(path.sep, '/')}`)
      .filter((file) => name.test(file) && !/\.test(-d)?\.ts$|\.d\.ts$/.test(file))
      .sort(),
  );
}

/** The page of these errors. */
export function errorsPage(errors: readonly ErrorText[]): string {
  const codes = [...new Set(errors.map(({ code }) => code))].sort();
  const sections = AREAS.flatMap(([title]) => {
    const own = codes.filter((code) => areaOf(code) === title);
    if (own.length === 0) return [];
    const entries = own.map((code) =>
      entry(
        code,
        errors.filter((one) => one.code === code),
      ),
    );
    return [`## ${title}\n\n${entries.join('\n')}`];
  });
  return `${HEAD}\n${sections.join('\n')}`;
}

export const storedErrorsPage = (): string => readFileSync(page, 'utf8');

export const storeErrorsPage = (text: string): void => writeFileSync(page, text);

/** What an entry says of a message that is made at run time and has no line in CAUSES. */
const UNEXPLAINED = 'The message says what went wrong.';

/** Entries of `page` without a cause, and those of errors without a fix, by their codes. */
export function incomplete(page: string): string[] {
  const entries = page.split(/^### /m).slice(1);
  const lacking = entries.filter(
    (text) => text.includes(UNEXPLAINED) || !/^(Fix\b|A warning:)/m.test(text),
  );
  return lacking.map((text) => (text.split('\n') as [string])[0]);
}

/** Codes for which CAUSES has a line that the page does not need. */
export function needlessCauses(page: string): string[] {
  return Object.keys(CAUSES).filter((code) => !page.includes(CAUSES[code] as string));
}

/** Codes of the section for what belongs to no area. */
export function withoutArea(page: string): string[] {
  const [, other = ''] = page.split(/^## Other$/m);
  return [...other.matchAll(/^### (\S+)/gm)].map(([, code]) => code as string);
}

/** Codes of errors for which no place names a fix. */
export function withoutFix(errors: readonly ErrorText[]): string[] {
  const failing = errors.filter(({ warns }) => !warns);
  const fixed = new Set(failing.filter(({ fix }) => fix !== undefined).map(({ code }) => code));
  return [...new Set(failing.map(({ code }) => code))].filter((code) => !fixed.has(code)).sort();
}

function entry(code: string, errors: readonly ErrorText[]): string {
  const messages = distinct(errors.map(({ message }) => message)).map(inCode);
  const fixes = distinct(errors.map(({ fix }) => fix)).map(prose);
  const says = messages.length > 0 ? messages : [CAUSES[code] ?? UNEXPLAINED];
  const warning = errors.every(({ warns }) => warns) ? ['', 'A warning: the work continues.'] : [];
  const fix = fixes.length === 1 ? ['', `Fix: ${fixes[0]}`] : [];
  if (fixes.length > 1)
    fix.push('', 'Fix, by what the message says:', '', ...fixes.map((one) => `- ${one}`));
  return [`### ${code}`, '', ...says.map((one) => `- ${one}`), ...warning, ...fix, ''].join('\n');
}

/** Texts once each: those that differ only by a capital letter or a last full stop are the same. */
function distinct(texts: readonly (string | undefined)[]): string[] {
  const found = new Map<string, string>();
  for (const text of texts) {
    if (text === undefined || /^[…\s.:]*$/.test(text)) continue;
    const key = text.replace(/[.;]/g, '').toLowerCase();
    if (!found.has(key)) found.set(key, text);
  }
  return [...found.values()];
}

/** A message as it is printed. */
const inCode = (text: string): string => (text.includes('`') ? `\`\` ${text} \`\`` : `\`${text}\``);

function prose(text: string): string {
  const isCommand = /^(vLLM|npm|lockstep|pip) /.test(text);
  const sentence = isCommand ? text : `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
  const whole = /[.…]$/.test(sentence) ? sentence : `${sentence}.`;
  const pieces = whole.split(/(`[^`]*`)/);
  return pieces
    .map((piece, at) => (at % 2 === 1 ? piece : piece.replace(/[*_<|]/g, '\\$&')))
    .join('');
}

function areaOf(code: string): string {
  const [, area] = /^LS_([A-Z0-9]+)/.exec(code) as RegExpExecArray;
  return AREAS.find(([, prefixes]) => prefixes.includes(area as string))?.[0] ?? 'Other';
}
