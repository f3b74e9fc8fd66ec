import { describe, expect, test } from 'vitest';
import { startFailure } from './failure.ts';
import { checkFlags, checkPrecision, vllmCommand } from './flags.ts';

describe('flags', () => {
  test.each([
    ['--host', '0.0.0.0'],
    ['--port=1'],
    ['--model', 'x'],
    ['--trust-remote-code'],
    ['--trust_remote_code'],
    ['--trust-rem'],
    ['--speculative-config', '{}'],
    ['--speculative-config.model', 'x'],
    ['-sc', '{}'],
    ['-sc.model', 'x'],
    ['--kv-transfer-config={}'],
    ['--max-num-seqs', '4', '--data-parallel-size', '2'],
    ['-dp=2'],
    ['--dtype', 'half'],
    ['--no-enable-lora'],
    ['--lora-modules', 'a=b'],
    ['--fully-sharded-loras'],
    // No error of vLLM's, but nothing that reaches a client either.
    ['--tool-call-parser', 'mistral'],
    ['--enable-auto-tool-choice'],
    ['--reasoning-parser=qwen3'],
    ['--load-format', 'dummy'],
  ])('%s %s is refused by its name', (...flags) => {
    expect(() => checkFlags(flags)).toThrow(
      expect.objectContaining({ code: 'LS_VLLM_FLAG', fix: 'Leave it out.' }),
    );
  });

  test('a precision that was not compared is refused, before vLLM starts', () => {
    for (const known of ['float32', 'bfloat16']) expect(() => checkPrecision(known)).not.toThrow();
    expect(() => checkPrecision('float16')).toThrow(
      expect.objectContaining({ code: 'LS_VLLM_PRECISION', field: 'precision' }),
    );
  });

  test('others pass as they are', () => {
    const flags = ['--max-num-seqs', '64', '--enforce-eager', '-tp', '2', '-cc.mode=0', '-1'];
    expect(() => checkFlags(flags)).not.toThrow();
    const launch = {
      dir: '/d',
      model: 'm',
      at: '/s/vllm.sock',
      dtype: 'float32',
      maxTokens: 9,
      flags,
    };
    const command = vllmCommand(launch).join(' ');
    expect(command).toContain('--uds /s/vllm.sock --dtype float32');
    expect(command.endsWith(`--max-model-len 9 ${flags.join(' ')}`)).toBe(true);
  });
});

test('adapters are vLLM’s own flags, before the user’s, which may change how many a batch has', () => {
  const named = (name: string, rank: number) => ({
    ...{ name, rank, dir: `/a/${name}`, contract: '', base: '', sha256: '' },
  });
  const launch = { dir: '/d', model: 'm', at: '/s', dtype: 'float32', maxTokens: null };
  const command = (ranks: number[], flags: string[] = []) =>
    vllmCommand({ ...launch, flags, adapters: ranks.map((rank, i) => named(`n${i}`, rank)) });
  expect(command([4, 17], ['--max-loras', '1']).slice(-12)).toEqual([
    ...['--enable-lora', '--max-loras', '2', '--max-cpu-loras', '2', '--max-lora-rank', '32'],
    ...['--lora-modules', '{"name":"n0","path":"/a/n0"}', '{"name":"n1","path":"/a/n1"}'],
    ...['--max-loras', '1'],
  ]);
  expect(command([512])).toContain('512');
  expect(command(Array(20).fill(1)).join(' ')).toContain('--max-loras 16 --max-cpu-loras 20');
  expect(command([]).join(' ')).not.toContain('lora');
});

describe('why it did not start', () => {
  const failed = (lines: string[]) => startFailure({ code: 1, signal: null, lines });

  test('the plugin’s own error, found among what vLLM prints around it', () => {
    const error = failed([
      '(EngineCore pid=7) ERROR 11-24 00:00:01 [core.py:9] Traceback (most recent call last):',
      '(EngineCore pid=7) ERROR 11-24 00:00:01 [core.py:9] lockstep.errors.LockstepError: expected a, got b',
      '(EngineCore pid=7) ERROR 11-24 00:00:01 [core.py:9] [LS_VLLM_FEATURE] leave c out',
      '(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.',
    ]);
    expect(error).toMatchObject({
      code: 'LS_VLLM_FEATURE',
      message: 'expected a, got b',
      fix: 'leave c out',
    });
    expect(failed(['x.LockstepError: [LS_VLLM_HEADS] expected d']).code).toBe('LS_VLLM_HEADS');
  });

  test('a worker’s error, above what the processes that waited for it print', () => {
    const error = failed([
      '(VllmWorker-0 pid=8) ERROR 11-24 00:00:01 [multiproc_executor.py:9] ValueError: Available memory on node 0 (5/8 GiB) on startup is less than desired CPU memory utilization (0.92, 7 GiB).',
      '(EngineCore pid=7) ERROR 11-24 00:00:01 [core.py:9] Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.',
      '(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}',
    ]);
    expect(error.message).toMatch(/^expected vLLM to run, got exit code 1. ValueError: Available/);
    expect(error.fix).toContain('--gpu-memory-utilization');
  });

  test('anything else with its error or its last lines, and a hint', () => {
    const error = failed(['one', 'ModuleNotFoundError: No module named vllm']);
    expect(error.code).toBe('LS_VLLM_START');
    expect(error.message).toContain('got exit code 1. ModuleNotFoundError');
    expect(error.fix).toContain('npm run setup -- --vllm');
    expect(failed(['one', 'two']).message).toContain('one\ntwo');
    expect(failed([]).message).toContain('printed nothing');
    expect(failed(['ValueError: max seq len (9) is larger']).fix).toContain('--max-tokens');
  });
});
