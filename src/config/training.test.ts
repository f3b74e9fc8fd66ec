import { describe, expect, it } from 'vitest';
import { trainingSchema } from './training.ts';

const parsed = (value: object): Record<string, unknown> =>
  trainingSchema.parse({ steps: 1, ...value });

function issue(value: object): string {
  const result = trainingSchema.safeParse({ steps: 1, ...value });
  const [first] = result.error?.issues ?? [];
  return first === undefined ? '' : `${first.path.join('.')}: ${first.message}`;
}

describe('trainingSchema', () => {
  it('fills in its defaults', () => {
    expect(parsed({})).toMatchObject({
      batch: 1,
      accumulate: 1,
      schedule: 'cosine',
      finalRate: 0.1,
      trainable: 'all',
      recompute: false,
      spike: 2,
      patience: 16,
    });
    expect(parsed({})['lora']).toBeUndefined();
  });

  it('trains adapters alone where it has some', () => {
    const lora = { rank: 16, alpha: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] };
    expect(parsed({ lora: {} })).toMatchObject({ lora, trainable: [] });
    const more = { lora: { rank: 4 }, trainable: ['*norm.weight'] };
    expect(parsed(more)).toMatchObject({ lora: { rank: 4 }, trainable: ['*norm.weight'] });
  });

  it.each([
    [{ lora: {}, trainable: 'all' }, 'trainable: expected patterns of names, or nothing'],
    [{ lora: { rank: 0 } }, 'lora.rank: '],
    [{ lora: { dropout: 0.1 } }, 'lora: Unrecognized key'],
    [{ schedule: 'constant', finalRate: 0.1 }, 'finalRate: expected none'],
    [{ schedule: 'step' }, 'schedule: '],
    [{ accumulate: 0 }, 'accumulate: '],
    [{ validateEvery: 0 }, 'validateEvery: '],
  ])('%j is refused', (value, words) => {
    expect(issue(value)).toContain(words);
  });
});
