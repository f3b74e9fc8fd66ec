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
    // No error of vLLM's, but nothing that reaches a client either.
    ['--tool-call-parser', 'mistral'],
    ['--enable-auto-tool-choice'],
    ['--reasoning-parser=qwen3'],
    ['--load-format', 'dummy'],
  ])('%s %s is refused by its name', (...flags) => {
    expect(() => checkFlags(flags)).toThrow(
      expect.objectContaining({ code: 'LS_VLLM_FLAG', mend: 'Leave it out.' }),
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
    const launch = { dir: '/d', model: 'm', port: 5, dtype: 'float32', maxTokens: 9, flags };
    const command = vllmCommand(launch).join(' ');
    expect(command).toContain('--host 127.0.0.1 --port 5 --dtype float32');
    expect(command.endsWith(`--max-model-len 9 ${flags.join(' ')}`)).toBe(true);
  });
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
      mend: 'leave c out',
    });
    expect(failed(['x.LockstepError: [LS_VLLM_HEADS] expected d']).code).toBe('LS_VLLM_HEADS');
  });

  test('anything else with its last lines and a hint', () => {
    const error = failed(['one', 'ModuleNotFoundError: No module named vllm']);
    expect(error.code).toBe('LS_VLLM_START');
    expect(error.message).toContain('one\nModuleNotFoundError');
    expect(error.mend).toContain('npm run setup -- --vllm');
    expect(failed([]).message).toContain('printed nothing');
    expect(failed(['ValueError: max seq len (9) is larger']).mend).toContain('--max-tokens');
  });
});
