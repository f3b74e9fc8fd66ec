// The conformance matrix: every policy x Node and Python x every way of feeding it the same tokens.
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkPolicy } from '../src/checkpoint/check-policy.ts';
import { bundlePolicy } from '../src/contract/bundle.ts';
import { prepareTables } from '../src/contract/prepare.ts';
import type { Json } from '../src/contract/schema.ts';
import { packageRoot } from '../src/paths.ts';
import {
  PolicyHost,
  type PolicySource,
  plan,
  planStream,
  Segmenter,
} from '../src/planner/index.ts';
import {
  after,
  anyOf,
  type ChatMarks,
  code,
  delimiters,
  fixed,
  type Policy,
  paragraphs,
  questions,
  sentences,
  turns,
} from '../src/policies/index.ts';
import { type Corpus, loadCorpus } from './helpers/corpus.ts';
import { python } from './helpers/python.ts';
import { randomIntegers } from './helpers/random.ts';
import { logarithm } from './policies/logarithm.ts';
import { repeats } from './policies/repeats.ts';

/** Policies and limits (min, max, align). */
const rows: readonly [string, Policy, readonly [number, number, number]][] = [
  ['fixed', fixed({ size: 100 }), [1, 512, 1]],
  ['fixed, aligned', fixed({ size: 50 }), [16, 256, 16]],
  ['sentences', sentences(), [1, 512, 1]],
  ['sentences, aligned', sentences(), [32, 256, 16]],
  ['paragraphs', paragraphs(), [4, 512, 1]],
  ['code', code(), [1, 512, 1]],
  ['delimiters: tokens', delimiters({ tokens: [30, 28, 198, 4097] }), [2, 64, 2]],
  ['delimiters: strings', delimiters({ strings: ['\n\n', 'thou ', ' the k', '```'] }), [1, 512, 1]],
  ['delimiters: pattern', delimiters({ pattern: '^ [A-Z]' }), [8, 96, 4]],
  ['anyOf', anyOf(paragraphs(), delimiters({ strings: ['?'] }), fixed({ size: 90 })), [1, 128, 1]],
  ['after', after(sentences({ abbreviations: ['Enter'] }), 64), [1, 512, 1]],
  ['nested', anyOf(after(anyOf(sentences(), code()), 48), after(repeats(), 96)), [16, 256, 16]],
  ['questions', questions(), [1, 512, 1]],
  ['questions, aligned', anyOf(after(sentences(), 64), questions()), [16, 256, 16]],
  ['turns', turns(), [1, 512, 1]],
  ['turns beside sentences', anyOf(after(sentences(), 48), turns()), [16, 256, 4]],
  ["a user's policy", repeats({ memory: 8 }), [3, 300, 3]],
  ["a user's policy of floating point", logarithm({ sum: 900 }), [1, 512, 1]],
];

/** Tokens of each row: Shakespeare, Markdown and code, random ids. Every row has its own: a million in all. */
const sizes = { prose: 34_000, code: 11_000, random: 11_000 };
/** Tokens where each takes a call of its own. */
const oneByOne = 2000;
/** Tokens of each row that are cut again in chunks, and behind a snapshot of the other runtime. */
const again = 10_000;

interface Job extends PolicySource {
  tokens: number[];
  oneByOne: number;
  again: number;
  /** Taken by Node at a third of the tokens. */
  snapshot: string;
}
interface Outcome {
  whole: number[];
  ways: Record<string, [tokens: number, differs: boolean]>;
}

let corpus: Corpus;
let folder: string;
let compared = 0;
const jobs: Job[] = [];
let inPython: Outcome[];

beforeAll(async () => {
  corpus = await loadCorpus();
  const { tokenizer } = corpus;
  const draw = randomIntegers(3);
  for (const [index, [, policy, [min, max, align]]] of rows.entries()) {
    const { source } = await bundlePolicy(policy);
    const { vocabulary } = tokenizer;
    const { tables, chat } = await prepareTables(policy, tokenizer);
    const contract = {
      policy: { name: policy.name },
      tables: JSON.parse(JSON.stringify(tables)) as Json,
      segment: { min, max, align },
      tokenizer: { size: vocabulary.size },
    };
    const tokens = [
      ...conversation(part(corpus.prose, sizes.prose, index), chat),
      ...part(corpus.code, sizes.code, index),
      ...Array.from({ length: sizes.random }, () => draw(vocabulary.size)),
    ];
    const files = { contract, policySource: source };
    const segmenter = new Segmenter(files);
    segmenter.pushMany(tokens.slice(0, Math.floor(tokens.length / 3)));
    jobs.push({ ...files, tokens, oneByOne, again, snapshot: segmenter.snapshot() });
    segmenter.close();
  }
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-conformance-'));
  const file = path.join(folder, 'jobs.json');
  await writeFile(file, JSON.stringify(jobs));
  const { stdout } = await promisify(execFile)(
    python,
    [path.join(packageRoot, 'test/python/run_plans.py'), file],
    {
      maxBuffer: 1 << 28,
      timeout: 880_000,
      env: { ...process.env, PYTHONPATH: path.join(packageRoot, 'python') },
    },
  );
  inPython = JSON.parse(stdout) as Outcome[];
}, 900_000);

afterAll(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true });
});

/** The same number of tokens; for a policy that asked for the chat template, its marks among them. */
function conversation(tokens: number[], chat: ChatMarks | null): number[] {
  const marks = [...(chat?.answer ?? []), ...(chat?.ends ?? [])];
  if (marks.length === 0) return tokens;
  const out: number[] = [];
  for (let at = 0; out.length < tokens.length; at += 40 + (at % 23)) {
    out.push(...tokens.slice(at, at + 40 + (at % 23)), ...(marks[(at % 7) % marks.length] ?? []));
  }
  return out.slice(0, tokens.length);
}

/** The `index`-th stretch of `size` tokens, around the end. */
function part(tokens: Int32Array, size: number, index: number): number[] {
  return Array.from(
    { length: size },
    (_, i) => tokens[(index * size + i) % tokens.length] as number,
  );
}

/**
 * SEMANTICS.md 5 once more, written apart from src/planner/core.ts: collect an open segment's
 * requests and decide at every token from its length alone.
 */
function reference(policy: Policy, { contract, tokens }: Job): number[] {
  const { tables, segment } = contract;
  const state = policy.start();
  const cuts: number[] = [];
  let start = 0;
  let request = Number.POSITIVE_INFINITY;
  tokens.forEach((token, i) => {
    const length = i + 1 - start;
    if (policy.push(state, token, tables) && length >= segment.min)
      request = Math.min(request, length);
    const wanted = Math.ceil(request / segment.align) * segment.align;
    if (length !== wanted && length !== segment.max) return;
    cuts.push(i + 1);
    start = i + 1;
    request = Number.POSITIVE_INFINITY;
    policy.cut(state, tables);
  });
  return cuts;
}

describe.each(rows.map(([name, policy], index) => ({ name, policy, index })))(
  '$name',
  ({ policy, index }) => {
    let job: Job;
    let host: PolicyHost;
    let whole: number[];
    const cutsUpTo = (length: number): number[] => whole.filter((cut) => cut <= length);
    const draw = randomIntegers(11 + index);

    beforeAll(() => {
      job = jobs[index] as Job;
      host = new PolicyHost(job);
      whole = plan(host, job.tokens);
      compared += job.tokens.length;
    });
    afterAll(() => host.close());

    it('cuts where the reference does, in Node and in Python', () => {
      expect(whole).toEqual(reference(policy, job));
      expect((inPython[index] as Outcome).whole).toEqual(whole);
      expect(whole.length).toBeGreaterThan(job.tokens.length / job.contract.segment.max - 1);
      // The policy asks by itself: not all cuts are those that max forces.
      if (/^(questions|turns)/.test(policy.name)) {
        expect(whole.length).toBeGreaterThan((2 * job.tokens.length) / job.contract.segment.max);
      }
      compared += job.tokens.length;
    });

    it('cuts alike however Python feeds it', () => {
      for (const [way, [tokens, differs]] of Object.entries((inPython[index] as Outcome).ways)) {
        expect([way, differs]).toEqual([way, false]);
        compared += tokens;
      }
    });

    it('cuts alike in chunks of any size', async () => {
      const chunks = function* (): Generator<number[]> {
        for (let at = 0; at < again; ) {
          const end = Math.min(again, at + 1 + draw(400));
          yield job.tokens.slice(at, end);
          at = end;
        }
      };
      const cuts: number[] = [];
      for await (const { boundaries } of planStream(host, chunks())) cuts.push(...boundaries);
      expect(cuts).toEqual(cutsUpTo(again));
      compared += again;
    });

    it('cuts alike token by token', () => {
      const segmenter = new Segmenter(host);
      const cuts: number[] = [];
      for (const token of job.tokens.slice(0, oneByOne)) {
        if (segmenter.push(token)) cuts.push(segmenter.position);
        expect(segmenter.openLength).toBe(segmenter.position - (cuts.at(-1) ?? 0));
      }
      segmenter.close();
      expect(cuts).toEqual(cutsUpTo(oneByOne));
      compared += oneByOne;
    });

    it('plans a prefix as it plans the whole', () => {
      for (let n = 0; n < 4; n++) {
        const length = draw(4 * oneByOne);
        expect(plan(host, job.tokens.slice(0, length))).toEqual(cutsUpTo(length));
        compared += length;
      }
    });

    it('continues from snapshots and forks', () => {
      let segmenter = new Segmenter(host);
      const cuts: number[] = [];
      for (let at = 0; at < 4 * oneByOne; ) {
        const end = Math.min(4 * oneByOne, at + 1 + draw(200));
        cuts.push(...segmenter.pushMany(job.tokens.slice(at, end)));
        at = end;
        const next =
          draw(2) === 0 ? segmenter.fork() : Segmenter.restore(host, segmenter.snapshot());
        // What the old one sees now is nothing to the new one.
        segmenter.pushMany(job.tokens.slice(0, 10));
        segmenter.close();
        segmenter = next;
      }
      segmenter.close();
      expect(cuts).toEqual(cutsUpTo(4 * oneByOne));
      compared += 4 * oneByOne;
    });

    it('plans a hundred sequences in one call', () => {
      const segmenters = Array.from({ length: 100 }, () => new Segmenter(host));
      const cuts = Segmenter.pushBatch(
        segmenters,
        segmenters.map((_, i) => job.tokens.slice(0, 10 * i)),
      );
      cuts.forEach((list, i) => {
        expect(list).toEqual(cutsUpTo(10 * i));
      });
      for (const segmenter of segmenters) segmenter.close();
      compared += 49_500;
    });

    it('the bundle cuts as the policy object that its author wrote', () => {
      checkPolicy(policy, job, [job.tokens.slice(0, 4000), job.tokens.slice(-4000)]);
    });
  },
);

it('compared at least a million tokens', () => {
  expect(rows.length * (sizes.prose + sizes.code + sizes.random)).toBeGreaterThan(1e6);
  expect(compared).toBeGreaterThan(1e6);
});
