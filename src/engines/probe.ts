// The probe of a checkpoint: before anything is served, an engine must come to the trainer's numbers
// on a short stored sequence (python/lockstep/verification/probe.py records it; vLLM's plugin checks it itself).

import path from 'node:path';
import { z } from 'zod';
import { probeFile } from '../checkpoint/write.ts';
import type { Contract } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { parseJson } from '../json.ts';
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import { readIfThere } from '../read-if-there.ts';
import { shellWord } from '../shell-word.ts';
import type { Engine } from './engine.ts';
import { roundedLimits } from './rounded.ts';
import { logSoftmax } from './sampling.ts';
import { Sequence } from './sequence.ts';

const id = z.int().min(0);
const probeSchema = z.object({
  probe: z.literal(1),
  digest: z.string(),
  weights: z.string().nullable(),
  dtype: z.literal('float32'),
  tokens: z.array(id).min(1),
  boundaries: z.array(id),
  rows: z
    .array(
      z
        .object({ position: id, ids: z.array(id).min(1), logp: z.array(z.number()) })
        .refine((row) => row.ids.length === row.logp.length),
    )
    .min(1),
});

/** The content of `probe.json`; rows by position. */
export type Probe = z.infer<typeof probeSchema>;

/** What became of a probe. `short`: the engine takes fewer tokens than its first row needs. */
export interface ProbeOutcome {
  status: 'passed' | 'skipped' | 'absent' | 'short';
  tokens: number;
  boundaries: number;
  positions: number;
  /** In nats, of the kind that the bound limits. */
  off: number | null;
  bound: number | null;
  kind: 'largest' | 'mean' | null;
  milliseconds: number;
}

/** A probe that was not run. */
export function notRun(status: 'skipped' | 'absent' | 'short'): ProbeOutcome {
  const none = { tokens: 0, boundaries: 0, positions: 0, milliseconds: 0 };
  return { status, ...none, off: null, bound: null, kind: null };
}

/** `largest`: no |dlogp| may exceed `nats`; `mean`: their mean may not. */
interface Bound {
  kind: 'largest' | 'mean';
  nats: number;
}

/** How each was set: docs/verify.md. vLLM's stand in python/lockstep/vllm/probe.py. */
const bounds: Readonly<Record<string, Bound>> = {
  'onnx fp32': { kind: 'largest', nats: 2e-3 },
  'torch float32': { kind: 'largest', nats: 2e-3 },
  'torch float64': { kind: 'largest', nats: 2e-3 },
  ...Object.fromEntries(
    Object.entries(roundedLimits).map(([name, nats]): [string, Bound] => [
      name,
      { kind: 'mean', nats },
    ]),
  ),
};

/**
 * The probe beside a contract; null where there is none.
 *
 * @throws LS_PROBE_FILE the file is not a probe; LS_PROBE_STALE the probe belongs to another contract or to
 *   other weights
 */
export async function readProbe(dir: string, contract: Contract): Promise<Probe | null> {
  const file = path.join(dir, probeFile);
  const text = await readIfThere(file).catch((cause: Error) => {
    throw unreadable(file, cause.message, dir);
  });
  if (text === null) return null;
  const parsed = probeSchema.safeParse(parseJson(text) ?? null);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw unreadable(file, `${issue?.path.join('.') || 'its root'}: ${issue?.message}`, dir);
  }
  const probe = parsed.data;
  if (probe.rows.some((row) => row.position >= probe.tokens.length)) {
    throw unreadable(file, 'a row after its last token', dir);
  }
  for (const [what, ours, theirs] of [
    ['contract', contract.digest, probe.digest],
    ['weights', weightsOf(contract), probe.weights],
  ] as const) {
    if (ours === theirs) continue;
    throw new LockstepError(
      'LS_PROBE_STALE',
      `expected a probe of the ${what} ${ours ?? '(none recorded)'}, got one of ${theirs ?? '(none recorded)'} (${probeFile})`,
      { fix: remake(dir), field: what },
    );
  }
  return { ...probe, rows: [...probe.rows].sort((a, b) => a.position - b.position) };
}

/** The identity of the weights that the contract names; null for one that names none. */
function weightsOf(contract: Contract): string | null {
  const trained = contract.trained as { weights?: { sha256?: string } } | null;
  return trained?.weights?.sha256 ?? null;
}

/**
 * Run a probe through an engine that is stepped from here.
 *
 * @param most tokens that a sequence of it may have: the part of the probe that fits is run
 * @throws LS_PROBE_MISMATCH where the numbers are not the trainer's; what the engine throws
 */
export async function runProbe(
  engine: Engine,
  source: PlannerSource,
  probe: Probe,
  most: number = Number.POSITIVE_INFINITY,
): Promise<ProbeOutcome> {
  const rows = probe.rows.filter((row) => row.position < most);
  if (rows.length === 0) return notRun('short');
  const since = performance.now();
  const length = Math.min(probe.tokens.length, most);
  const { name, precision, vocabulary } = engine.info;
  const bound = bounds[`${name} ${precision}`] ?? (bounds['onnx fp32'] as Bound);
  const distance = new Distance();
  const sequence = new Sequence(await engine.open(), new Segmenter(source));
  try {
    let at = 0;
    for (const [first, end] of stretches(rows.map((row) => row.position))) {
      await sequence.feed(probe.tokens.slice(at, first), { rows: 'none' });
      for await (const ran of sequence.run(probe.tokens.slice(first, end), { rows: 'all' })) {
        for (const [i] of ran.tokens.entries()) {
          const row = rows.find(
            ({ position }) => position === ran.from + i,
          ) as Probe['rows'][number];
          distance.add(row, ran.logits.subarray(i * vocabulary, (i + 1) * vocabulary));
        }
      }
      at = end;
    }
  } finally {
    await sequence.close();
  }
  const off = distance.judge(bound, `${name} ${precision}`);
  return {
    status: 'passed',
    tokens: length,
    boundaries: probe.boundaries.filter((cut) => cut <= length).length,
    positions: rows.length,
    off,
    bound: bound.nats,
    kind: bound.kind,
    milliseconds: Math.round(10 * (performance.now() - since)) / 10,
  };
}

/** Half-open runs of neighbouring positions. */
function stretches(positions: readonly number[]): [number, number][] {
  const found: [number, number][] = [];
  for (const at of positions) {
    const last = found.at(-1);
    if (last !== undefined && last[1] === at) last[1] = at + 1;
    else found.push([at, at + 1]);
  }
  return found;
}

/** |dlogp| over the rows of a probe. */
class Distance {
  #largest = -1;
  #sum = 0;
  #count = 0;
  #worst = '';

  add({ position, ids, logp }: Probe['rows'][number], logits: Float32Array): void {
    const own = logSoftmax(logits);
    for (const [i, token] of ids.entries()) {
      const expected = logp[i] as number;
      const got = own[token] as number;
      // Numbers that are none are infinitely far.
      const off = Number.isFinite(got) ? Math.abs(got - expected) : Number.POSITIVE_INFINITY;
      this.#sum += off;
      this.#count += 1;
      if (off <= this.#largest) continue;
      this.#largest = off;
      this.#worst = `${got.toPrecision(6)} instead of ${expected.toPrecision(6)} for token ${token} after position ${position}`;
    }
  }

  judge({ kind, nats }: Bound, engine: string): number {
    const mean = this.#sum / this.#count;
    const off = kind === 'mean' ? mean : this.#largest;
    if (off <= nats) return off;
    const average = kind === 'mean' ? `on average ${mean.toPrecision(3)} nats off, ` : '';
    throw new LockstepError(
      'LS_PROBE_MISMATCH',
      `expected the trainer's log-probabilities within ${nats} nats (${kind}, ${engine}), got ${average}${this.#worst} of ${probeFile}`,
      {
        fix: `The weights or the exported graph are not those that the probe was recorded with: lockstep verify DIR shows where they differ. After a change of weights on purpose: lockstep export DIR, then lockstep probe DIR.${kind === 'mean' ? ' A rounded model may be this far off: use a higher precision. --no-probe serves unchecked numbers.' : ''}`,
      },
    );
  }
}

/** A probe's outcome in a line for people. */
export function probeLine(outcome: ProbeOutcome): string {
  switch (outcome.status) {
    case 'skipped':
      return 'probe: skipped (--no-probe); this engine was not checked against the trainer';
    case 'absent':
      return `probe: this checkpoint has no ${probeFile}; lockstep probe DIR records one`;
    case 'short':
      return 'probe: skipped, because --max-tokens is smaller than the probe';
    default: {
      const { tokens, boundaries, positions, off, kind, bound, milliseconds } = outcome;
      return `probe: passed, ${tokens} tokens, ${boundaries} boundaries, ${positions} positions, ${kind} |dlogp| ${(off ?? 0).toExponential(1)} of ${bound} nats, ${Math.round(milliseconds)} ms`;
    }
  }
}

function unreadable(file: string, why: string, dir: string): LockstepError {
  return new LockstepError('LS_PROBE_FILE', `expected a probe in ${file}, got ${why}`, {
    fix: remake(dir),
  });
}

function remake(dir: string): string {
  return `Record it again: lockstep probe ${shellWord(dir)}`;
}
