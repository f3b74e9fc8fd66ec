// lockstep init: writes lockstep.config.ts from the model and the data that are here.
import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { makeContract } from '../../checkpoint/index.ts';
import { defaultConfigFile, loadConfig } from '../../config/index.ts';
import { readModel } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { shellWord } from '../../shell-word.ts';
import { systemProblem } from '../../system-error.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { makeFolder } from '../shared/make-folder.ts';
import { parseMinutes } from '../shared/option-values.ts';
import { paint } from '../shared/output.ts';
import { ask } from './ask.ts';
import { configText, policyFor } from './config-text.ts';
import { dataIn, type Format, filesOf, noData, type Sample, sampleOf } from './data.ts';
import { foldersBelow } from './folders.ts';
import { modelsIn, outFor } from './models.ts';
import { checkOut } from './out.ts';

interface InitOptions {
  config: string;
  model?: string;
  data?: string[];
  out?: string;
  minutes: number;
  yes?: true;
  json?: true;
}

export function initCommand(): Command {
  return new Command('init')
    .description('write lockstep.config.ts from the model and the data in this folder')
    .option(
      '--config <file>',
      'file to write, .ts or .js; one that exists is never replaced',
      configFile,
      defaultConfigFile,
    )
    .option('--model <dir>', 'folder of the Hugging Face checkpoint (default: the one found here)')
    .option('--data <files...>', 'files or patterns to train on (default: those found here)')
    .option('--out <dir>', 'folder for the trained checkpoint (default: runs/NAME of the model)')
    .option('--minutes <x>', 'how long to train', parseMinutes, 10)
    .option('--yes', 'ask nothing: take what is found')
    .option('--json', 'ask nothing, and print one JSON object')
    .action(runInit);
}

/** What loads as a config: esbuild goes by the ending. */
function configFile(name: string): string {
  if (/\.m?[jt]s$/i.test(name)) return name;
  throw new InvalidArgumentError('expected a file that ends in .ts, .mts, .js or .mjs.');
}

async function runInit(options: InitOptions): Promise<void> {
  const file = path.resolve(options.config);
  if (existsSync(file)) throw exists(options.config);
  const asks = !options.yes && !options.json && process.stdin.isTTY === true;
  const folders = await foldersBelow(process.cwd());
  const models = modelsIn(folders);
  const model = path.resolve(
    options.model ?? (await choose('Model folder?', models.map(shown), asks, 'model')),
  );
  const { layers, kvHeads } = await readModel(model);
  const found = dataIn(folders, models);
  const train = options.data ?? [
    await choose(
      'Data to train on?',
      found.map(({ pattern }) => shown(pattern)),
      asks,
      'data',
    ),
  ];
  const files = await filesOf(train, found);
  const { format, documents } = await look(files);
  await checkTemplate(model, format);
  const suggested = outFor(model);
  const out =
    options.out ??
    (asks
      ? await ask({ text: 'Folder for the trained checkpoint?', found: [suggested] })
      : suggested);
  await checkOut(path.resolve(out), { data: files, model, config: file });
  const relative = (name: string): string => fromConfig(file, name);
  const text = configText({
    model: relative(model),
    out: relative(out),
    train: train.map(relative),
    format,
    documents,
    shape: { layers, kvHeads },
    minutes: options.minutes,
  });
  await writeNew(file, options.config, text);
  try {
    // What is written must work: the contract is made once.
    const config = await loadConfig(file);
    await makeContract({ config, modelDir: config.model });
    report(options, { model, train, format, policy: policyFor(format), out: config.out });
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}

/** The one that is there; what the user says where there are several. @throws LS_INIT_MODEL, LS_INIT_DATA */
async function choose(
  text: string,
  found: readonly string[],
  asks: boolean,
  option: 'model' | 'data',
): Promise<string> {
  const answer = asks ? await ask({ text, found }) : found.length === 1 ? (found[0] as string) : '';
  if (answer !== '') return answer;
  const got = found.length === 0 ? 'none' : `${found.length}: ${found.slice(0, 6).join(', ')}`;
  throw notOne[option](got);
}

const notOne = {
  model: (got: string) =>
    new LockstepError(
      'LS_INIT_MODEL',
      `expected one folder of a checkpoint in this folder, got ${got}`,
      {
        fix: 'Name it: lockstep init --model DIR. It holds config.json, tokenizer.json and *.safetensors.',
        field: 'model',
      },
    ),
  data: (got: string) =>
    new LockstepError(
      'LS_INIT_DATA',
      `expected files of one kind to train on in this folder, got ${got}`,
      {
        fix: 'Name them: lockstep init --data FILE... (.jsonl, .json, .csv, .parquet, .txt and others).',
        field: 'data',
      },
    ),
};

/** What the files hold; files of two kinds need two policies, and so two configs. */
async function look(files: readonly string[]): Promise<{ format: Format; documents: number }> {
  const samples: Sample[] = [];
  for (const file of files.slice(0, 20)) samples.push(await sampleOf(file));
  const formats = [...new Set(samples.map(({ format }) => format))];
  if (formats.length > 1) {
    throw new LockstepError(
      'LS_INIT_FORMAT',
      `expected files of one format, got ${formats.join(', ')}`,
      {
        fix: 'Name files of one format with --data.',
        field: 'data',
      },
    );
  }
  const documents = samples.reduce((sum, sample) => sum + sample.documents, 0);
  if (formats[0] === 'text' && documents === 0) throw noData('empty files');
  return { format: formats[0] ?? 'unknown', documents };
}

async function checkTemplate(model: string, format: Format): Promise<void> {
  if (format !== 'messages') return;
  const { chatTemplate } = await loadTokenizer(model);
  if (chatTemplate !== null) return;
  throw new LockstepError(
    'LS_INIT_TEMPLATE',
    `expected a chat template in ${shown(model)}, which conversations need, got none`,
    {
      fix: 'Take a checkpoint for chats (often called Instruct), or add its chat_template.jinja.',
      field: 'model',
    },
  );
}

async function writeNew(file: string, name: string, text: string): Promise<void> {
  const notWritten = (cause: unknown): LockstepError =>
    new LockstepError('LS_INIT_WRITE', `expected to write ${name}, got ${systemProblem(cause)}`, {
      fix: 'Name a file with --config, in a folder that you can write to.',
      cause,
    });
  await makeFolder(path.dirname(file)).catch((cause: unknown) => {
    throw notWritten(cause);
  });
  let made = false;
  try {
    const handle = await open(file, 'wx');
    made = true;
    await handle.writeFile(text).finally(() => handle.close());
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw exists(name);
    // Of a disk that is full, no empty config stays.
    if (made) await rm(file, { force: true }).catch(() => {});
    throw notWritten(cause);
  }
}

function exists(name: string): LockstepError {
  return new LockstepError('LS_INIT_EXISTS', `expected no file at ${name}, got one`, {
    fix: 'Edit it, or write another one: lockstep init --config other.config.ts',
    field: 'config',
  });
}

interface Written {
  model: string;
  train: readonly string[];
  format: Format;
  policy: string;
  out: string;
}

function report(options: InitOptions, { model, train, format, policy, out }: Written): void {
  const named =
    options.config === defaultConfigFile ? '' : ` --config ${shellWord(options.config)}`;
  const dir = shellWord(shown(out));
  const next = [
    `lockstep train${named}`,
    `lockstep export ${dir}`,
    `lockstep verify ${dir}`,
    `lockstep serve ${dir}`,
  ];
  if (options.json) {
    const result = {
      config: path.resolve(options.config),
      model,
      data: train,
      format,
      policy,
      out,
      next,
    };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  const { bold, dim } = paint(process.stdout);
  const holds = format === 'unknown' ? 'found when training begins' : format;
  process.stdout.write(
    `${bold(options.config)}\n` +
      `  model   ${shown(model)}\n  data    ${train.join(', ')} (${holds})\n  policy  ${policy}\n` +
      `next: ${next[0]}\n${dim(`then: ${next.slice(1).join('; ')}`)}\n`,
  );
}

function shown(file: string): string {
  return path.relative(process.cwd(), file) || '.';
}

/** A path as it stands in the config. A pattern's `!` stays in front. */
function fromConfig(config: string, name: string): string {
  if (name.startsWith('!')) return `!${fromConfig(config, name.slice(1))}`;
  const relative = path.relative(path.dirname(config), path.resolve(name)) || '.';
  return relative.split(path.sep).join('/');
}
