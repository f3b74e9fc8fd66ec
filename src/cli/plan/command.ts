// lockstep plan: where a text is cut, as JSON, as a map on the terminal, or as a page.
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { Command, Option } from 'commander';
import { type ContractFiles, makeContract, readContract } from '../../checkpoint/index.ts';
import { replaceFile } from '../../checkpoint/write.ts';
import { defaultConfigFile, filesOfConfig, loadConfig } from '../../config/index.ts';
import { readModel } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import { checkHtml } from '../shared/html-file.ts';
import { needs } from '../shared/needs.ts';
import { cancellation, paint, progress } from '../shared/output.ts';
import { type CutStream, nodeCuts, type PythonCutsOptions, pythonCuts } from './cuts.ts';
import { printJson } from './print-json.ts';
import { type MapHeading, SegmentCollector, type SegmentMap, thousands } from './segment-map.ts';
import { segmentMapHtml } from './segment-map-html.ts';
import { printSegmentMap } from './segment-map-text.ts';
import { fromStandardInput } from './standard-input.ts';
import { type Source, trace } from './trace.ts';
import { watching } from './watch.ts';

interface PlanOptions {
  config?: string;
  checkpoint?: string;
  runtime: 'node' | 'python';
  python?: string;
  json?: true;
  html?: string;
  trace?: true;
  watch?: true;
}

/** Rows on the terminal, rows on the page, and characters up to which the page holds the whole text. */
const terminalRows = { headRows: 40, tailRows: 12, textLimit: 16_384 };
const pageRows = { headRows: 2000, tailRows: 200, textLimit: 4_000_000 };

export function planCommand(): Command {
  return new Command('plan')
    .description('show where a text is cut into segments')
    .argument('<file>', 'a UTF-8 text; - reads standard input')
    .addOption(
      new Option(
        '--config <file>',
        `make the contract from a config (default: ${defaultConfigFile})`,
      ).conflicts('checkpoint'),
    )
    .option('--checkpoint <dir>', 'take the contract of a checkpoint')
    .addOption(
      new Option('--runtime <name>', 'what runs the policy')
        .choices(['node', 'python'])
        .default('node'),
    )
    .option('--python <path>', 'the interpreter for --runtime python')
    .option('--json', 'print {tokens, boundaries, digest}')
    .option('--html <out>', 'write the segment map as one HTML file')
    .addOption(
      new Option(
        '--trace',
        "print the policy's answer to each token, and its state (--json: one line per token, then the plan)",
      ).conflicts(['html', 'python']),
    )
    .addOption(
      new Option(
        '--watch',
        'plan again whenever the config, the policy or the text changes',
      ).conflicts('checkpoint'),
    )
    .action(runPlan);
}

async function runPlan(file: string, options: PlanOptions): Promise<void> {
  const { runtime } = options;
  if (options.trace && runtime === 'python') {
    throw needs('trace', '--runtime node', '--runtime python');
  }
  if (options.python !== undefined && runtime !== 'python') {
    throw needs('python', '--runtime python', `--runtime ${runtime}`);
  }
  checkHtml(options.html, 'LS_PLAN_HTML');
  const once = (text: string, name = text): Promise<void> => planOnce(text, name, options);
  const again = (text: string, name = text): Promise<void> =>
    options.watch === undefined
      ? once(text, name)
      : watching(
          () => [...filesOfConfig(options.config ?? defaultConfigFile), path.resolve(text)],
          () => once(text, name),
          options.json === true,
        );
  if (file !== '-') return again(file);
  await fromStandardInput((text) => again(text, 'standard input'));
}

/** @param name what the text is called where it is shown */
async function planOnce(file: string, name: string, options: PlanOptions): Promise<void> {
  const bytes = await fileSize(file);
  const source = await findSource(options);
  if (options.trace) return trace(file, source, options.json === true);
  const { files, tokenizer } = source;
  const { contract } = files;
  const cancel = cancellation();
  const bar = progress({ label: `plan ${path.basename(name)}`, total: bytes });
  const onProgress = (done: number, note: string): void => bar.update(done, note);
  const rows = options.html === undefined ? terminalRows : pageRows;
  const collector =
    options.json && options.html === undefined ? null : newCollector(files, tokenizer, rows);
  const boundaries: number[] = [];
  let tokens = 0;
  try {
    for await (const step of cutsOf(
      file,
      options,
      { files, tokenizer },
      { signal: cancel.signal, onProgress },
    )) {
      cancel.signal.throwIfAborted();
      if (options.json) for (const cut of step.cuts) boundaries.push(cut);
      collector?.add(step.ids, step.cuts);
      tokens += step.ids.length;
      onProgress(step.bytes, `${thousands(tokens)} tokens`);
    }
  } catch (error) {
    throw cancel.reason(error);
  } finally {
    bar.stop();
    cancel.stop();
  }
  if (collector !== null) {
    const map = collector.end();
    const heading = headingOf(name, source);
    if (options.html !== undefined) {
      const page = segmentMapHtml(map, heading, contract);
      await writePage(options.html, map, page, options.json === true);
    } else printSegmentMap(map, heading, process.stdout);
  }
  // Last: the reader of stdout may close it early (`| head`), and the page must still be written.
  if (options.json) await printJson(tokens, boundaries, contract.digest);
}

function cutsOf(
  file: string,
  options: PlanOptions,
  { files, tokenizer }: Source,
  running: Pick<PythonCutsOptions, 'signal' | 'onProgress'>,
): CutStream {
  const ids = tokenizer.encodeFile(file, { bos: files.contract.tokenizer.bos !== null });
  if (options.runtime === 'node') return nodeCuts(ids, files);
  const tokenizerFile = path.join(tokenizer.dir, 'tokenizer.json');
  return pythonCuts(ids, files, { tokenizerFile, python: options.python, ...running });
}

async function findSource(options: PlanOptions): Promise<Source> {
  if (options.checkpoint !== undefined) {
    const files = await readContract(options.checkpoint, { weights: 'ignored' });
    return { files, tokenizer: await loadTokenizer(options.checkpoint) };
  }
  const config = await loadConfig(options.config ?? defaultConfigFile);
  await readModel(config.model);
  const tokenizer = await loadTokenizer(config.model);
  return { files: await makeContract({ config, modelDir: config.model, tokenizer }), tokenizer };
}

function newCollector(
  { contract }: ContractFiles,
  tokenizer: Tokenizer,
  rows: { headRows: number; tailRows: number; textLimit: number },
): SegmentCollector {
  const decoder = tokenizer.decoder({ skipSpecial: false, start: true });
  return new SegmentCollector({ max: contract.segment.max, decoder, ...rows });
}

function headingOf(file: string, { files, tokenizer }: Source): MapHeading {
  const { policy, segment, digest } = files.contract;
  return {
    title: path.basename(file),
    model: path.basename(tokenizer.dir),
    policy: policy.name,
    params: shortParams(policy.params),
    ...segment,
    digest,
  };
}

/** Parameters for a heading: of long lists the first entries and the count. */
function shortParams(params: unknown): string {
  return JSON.stringify(params, (_, value: unknown) =>
    Array.isArray(value) && value.length > 4
      ? [...value.slice(0, 3), `... ${value.length - 3} more`]
      : value,
  );
}

async function fileSize(file: string): Promise<number> {
  const found = await stat(file).catch((cause: NodeJS.ErrnoException) => {
    throw missing(file, systemProblem(cause), cause);
  });
  if (!found.isDirectory()) return found.size;
  throw missing(file, 'a folder');
}

function missing(file: string, got: string, cause?: unknown): LockstepError {
  return new LockstepError(
    'LS_TEXT_MISSING',
    `expected a readable text file, got ${got}: ${file}`,
    {
      fix: 'Give the path of an existing UTF-8 text file.',
      cause,
    },
  );
}

async function writePage(
  out: string,
  map: SegmentMap,
  page: string,
  quiet: boolean,
): Promise<void> {
  await replaceFile(out, page).catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError(
      'LS_PLAN_WRITE',
      `expected to write ${out}, got ${systemProblem(cause)}`,
      {
        fix: 'Name a file with --html, in an existing folder that you can write to.',
        cause,
      },
    );
  });
  if (quiet) return;
  const { bold } = paint(process.stdout);
  process.stdout.write(
    `${bold(out)}  ${thousands(map.tokens)} tokens, ${thousands(map.closed)} closed segments\n`,
  );
}
