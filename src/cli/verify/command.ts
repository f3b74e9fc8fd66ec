// lockstep verify: does every serving engine compute what the trainer computed?
import { Command, InvalidArgumentError } from 'commander';
import { findPython, type Python } from '../../bridge/index.ts';
import { type Config, loadConfig } from '../../config/index.ts';
import {
  type OpenEngine,
  type VerifyReport,
  verify,
  type WholeEngine,
} from '../../engines/verify/index.ts';
import { LockstepError } from '../../errors.ts';
import { needs } from '../shared/needs.ts';
import {
  names,
  parseIntegerIn,
  parsePositiveInt,
  parsePositiveNumber,
} from '../shared/option-values.ts';
import { cancellation, exitCodes } from '../shared/output.ts';
import { stageBar } from '../shared/stage-bar.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import { verdict } from './table.ts';

interface VerifyCommandOptions {
  text?: string;
  tokens?: number;
  against: string[];
  config?: string;
  tolerance?: number;
  python?: string;
  threads?: number;
  json?: true;
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description('compare each serving engine with the training forward, token by token')
    .argument('<dir>', 'checkpoint folder with a contract')
    .option('--text <file>', 'UTF-8 text to run over (default: a built-in sample)')
    .option('--tokens <n>', 'number of tokens (default: 512)', parseIntegerIn(2))
    .option(
      '--against <engines>',
      'engines, comma-separated: onnx (or onnx:int8, …), torch (or torch:bfloat16, …), vllm',
      engines,
      ['onnx', 'torch'],
    )
    .option('--config <file>', 'take text, tokens and tolerance from the `verify` of a config')
    .option(
      '--tolerance <nats>',
      'largest difference of log-probabilities that passes, in nats (default: the engine’s own)',
      parsePositiveNumber,
    )
    .option('--threads <n>', 'threads of the trainer and of the torch engine', parsePositiveInt)
    .option('--python <path>', 'Python interpreter')
    .addOption(noWeightsCheck())
    .option('--json', 'print one JSON object')
    .action(runVerify);
}

async function runVerify(dir: string, options: VerifyCommandOptions): Promise<void> {
  const cancel = cancellation();
  const bar = stageBar({ width: 16 });
  let report: VerifyReport;
  try {
    const settings = await settingsOf(options);
    const python = await findPython({ python: options.python });
    report = await verify({
      dir,
      engines: new Map(options.against.map((name) => [name, opener(name, python, options)])),
      text: options.text ?? settings?.text,
      tokens: options.tokens ?? settings?.tokens ?? 512,
      tolerance: options.tolerance ?? settings?.tolerance,
      python,
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      signal: cancel.signal,
      onProgress: bar.update,
    });
  } catch (thrown) {
    throw cancel.reason(thrown);
  } finally {
    bar.stop();
    cancel.stop();
  }
  process.stdout.write(
    options.json ? `${JSON.stringify(report)}\n` : verdict(report, process.stdout),
  );
  if (!report.ok) process.exitCode = exitCodes.failed;
}

/** The `verify` of `--config`. @throws LS_USAGE where it would change nothing; LS_CONFIG_* */
async function settingsOf(options: VerifyCommandOptions): Promise<Config['verify']> {
  const { config, text, tokens, tolerance } = options;
  if (config === undefined) return undefined;
  if (text !== undefined && tokens !== undefined && tolerance !== undefined) {
    throw new LockstepError(
      'LS_USAGE',
      '--config has no effect: --text, --tokens and --tolerance already set everything it provides',
      { fix: 'Leave --config out.', field: 'config' },
    );
  }
  const settings = (await loadConfig(config)).verify;
  if (settings === undefined) throw needs('config', 'a config with `verify`', `none in ${config}`);
  return settings;
}

/** `name` or `name:precision`. */
function opener(
  choice: string,
  python: Python,
  options: VerifyCommandOptions,
): OpenEngine | WholeEngine {
  const [name, precision] = choice.split(':') as [string, string | undefined];
  if (name === 'vllm') {
    // It runs in float32 here, the only precision that `known` lets through.
    return {
      run: async (input) => (await import('../../engines/verify/vllm.ts')).runVllm(input),
    };
  }
  if (name === 'torch') {
    return async (dir) => {
      const { openTorchEngine } = await import('../../engines/torch.ts');
      return openTorchEngine(dir, {
        python,
        dtype: (precision ?? 'float32') as 'float32',
        ...(options.threads === undefined ? {} : { threads: options.threads }),
      });
    };
  }
  return async (dir) => {
    const { openOnnxEngine } = await import('../../engines/onnx.ts');
    return openOnnxEngine(dir, { precision: (precision ?? 'fp32') as 'fp32' });
  };
}

const known: Readonly<Record<string, readonly string[]>> = {
  onnx: ['fp32', 'int8', 'int4'],
  torch: ['float32', 'float64', 'bfloat16'],
  vllm: ['float32'],
};

function engines(text: string): string[] {
  const choices = names(text);
  for (const choice of choices) {
    const [name = '', precision] = choice.split(':');
    const precisions = known[name];
    if (precisions === undefined) {
      throw new InvalidArgumentError(`expected onnx, torch or vllm, got ${JSON.stringify(name)}.`);
    }
    if (precision !== undefined && !precisions.includes(precision)) {
      throw new InvalidArgumentError(
        `expected ${name} with ${precisions.join(', ')}, got ${JSON.stringify(precision)}.`,
      );
    }
  }
  return choices;
}
