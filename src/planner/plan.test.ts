import { beforeAll, describe, expect, it } from 'vitest';
import { vocabularyOf } from '../../test/helpers/policy.ts';
import { bundlePolicy } from '../contract/bundle.ts';
import { delimiters, fixed, type Policy } from '../policies/index.ts';
import { PolicyHost, type PolicySource, plan, planStream, Segmenter } from './index.ts';

const vocabulary = vocabularyOf(['a', 'b', '.']);

async function sourceOf(policy: Policy): Promise<PolicySource> {
  return {
    contract: {
      policy: { name: policy.name },
      tables: policy.prepare(vocabulary),
      segment: { min: 2, max: 6, align: 1 },
      tokenizer: { size: vocabulary.size },
    },
    policySource: (await bundlePolicy(policy)).source,
  };
}

let source: PolicySource;
beforeAll(async () => {
  source = await sourceOf(delimiters({ strings: ['.'] }));
});

describe('plan', () => {
  it('lists decided cuts only', () => {
    expect(plan(source, [0, 1, 2, 0, 2, 1, 1])).toEqual([3, 5]);
    expect(plan(source, [])).toEqual([]);
    expect(plan(source, [2])).toEqual([]);
    expect(plan(source, new Int32Array(13))).toEqual([6, 12]);
  });

  it('plans texts longer than one call to the policy takes', () => {
    const tokens = new Int32Array(200_000);
    expect(plan(source, tokens)).toHaveLength(33_333);
  });
});

describe('sequences that push in one turn', () => {
  const texts = Array.from({ length: 64 }, (_, i) =>
    Array.from({ length: 50 }, (_, k) => (i * k) % 3),
  );

  it('get the cuts of each alone, in whatever pieces', async () => {
    const host = new PolicyHost(source);
    const alone = texts.map((text) => plan(source, text));
    const together = await Promise.all(
      texts.map(async (text, i) => {
        const segmenter = new Segmenter(host);
        const cuts: number[] = [];
        for (let at = 0; at < text.length; at += 1 + (i % 7)) {
          cuts.push(...(await segmenter.pushSoon(text.slice(at, at + 1 + (i % 7)))));
        }
        expect([segmenter.position, segmenter.openLength]).toEqual([50, 50 - (cuts.at(-1) ?? 0)]);
        segmenter.close();
        return cuts;
      }),
    );
    host.close();
    expect(together).toEqual(alone);
  });

  it('one that is closed before its turn fails alone', async () => {
    const [one, two] = [new Segmenter(source), new Segmenter(source)];
    const pushes = [one.pushSoon([0]), two.pushSoon([0, 0, 2])];
    one.close();
    const [mine, theirs] = await Promise.allSettled(pushes);
    expect(mine).toMatchObject({ status: 'rejected', reason: { code: 'LS_PLAN_CLOSED' } });
    expect(theirs).toEqual({ status: 'fulfilled', value: [3] });
    two.close();
  });
});

describe('planStream', () => {
  it('plans ten million tokens in bounded memory', { timeout: 300_000 }, async () => {
    const host = new PolicyHost(await sourceOf(fixed({ size: 5 })));
    const chunk = new Int32Array(65_521);
    const chunks = function* (): Generator<Int32Array> {
      for (let left = 1e7; left > 0; left -= chunk.length) yield chunk.subarray(0, left);
    };
    let cuts = 0;
    let position = 0;
    let most = 0;
    let before = 0;
    for await (const progress of planStream(host, chunks())) {
      cuts += progress.boundaries.length;
      position = progress.position;
      const memory = process.memoryUsage.rss();
      before ||= memory;
      most = Math.max(most, memory - before);
    }
    host.close();
    expect([position, cuts]).toEqual([1e7, 2e6]);
    // Ten million ids are 40 MB as integers and far more as a list.
    expect(most).toBeLessThan(100 * 2 ** 20);
  });

  it('frees the sequence where its consumer stops early', async () => {
    for await (const { boundaries } of planStream(source, [[0, 1, 2], [0]])) {
      expect(boundaries).toEqual([3]);
      break;
    }
  });
});

describe('Segmenter', () => {
  it('knows its position and the length of the open segment, in forks and snapshots too', () => {
    const segmenter = new Segmenter(source);
    expect([0, 2, 0, 1].map((token) => segmenter.push(token))).toEqual([false, true, false, false]);
    expect([segmenter.position, segmenter.openLength]).toEqual([4, 2]);
    const fork = segmenter.fork();
    expect(fork.push(2)).toBe(true);
    expect([fork.position, fork.openLength]).toEqual([5, 0]);
    expect([segmenter.position, segmenter.openLength]).toEqual([4, 2]);
    expect(JSON.parse(segmenter.snapshot())).toMatchObject({
      position: 4,
      length: 2,
      asked: false,
    });
    segmenter.close();
    segmenter.close();
    fork.close();
    expect(() => segmenter.push(0)).toThrow('expected an open segmenter, got a closed one');
  });

  it('shares one host with all segmenters of its source, and refuses to batch across hosts', () => {
    const one = new Segmenter(source);
    const two = new Segmenter(source);
    expect(Segmenter.pushBatch([one, two], [[0, 2], [2]])).toEqual([[2], []]);
    const other = new Segmenter(new PolicyHost(source));
    expect(() => Segmenter.pushBatch([one, other], [[0], [0]])).toThrow(/2 segmenters and 2 lists/);
    expect(() => Segmenter.pushBatch([one, two], [[0]])).toThrow(/2 segmenters and 1 lists/);
  });

  it('refuses to push after its host was closed', () => {
    const host = new PolicyHost(source);
    const segmenter = new Segmenter(host);
    host.close();
    expect(() => segmenter.push(0)).toThrow('expected an open planner, got a closed one');
  });
});

it('policy.js says which policy it is', () => {
  const host = new PolicyHost(source);
  expect(host.describe()).toEqual({
    name: 'delimiters',
    params: { tokens: [], strings: ['.'], pattern: '' },
  });
  host.close();
});
