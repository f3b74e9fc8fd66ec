// Write bench/serving/RESULTS.md from bench/serving/raw/*.json: figures come from nowhere else.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';
import type { SeenTally } from '../../test/streams/client.ts';
import type { Tally } from '../../test/streams/judge.ts';
import type { Row as BesideRow } from './beside.ts';
import type { BodiesRow } from './bodies.ts';
import { growthOf, MAX_GROWTH, type MemoryRow } from './memory.ts';
import { type Recorded, raw } from './record.ts';

interface Streams extends Recorded {
  seconds: number;
  parser: Tally;
  lockstep: SeenTally;
  litellm: SeenTally | null;
  litellmVersion: string;
}

interface Load extends Recorded {
  minutes: number;
  requests: number;
  outcomes: Record<string, Record<string, number>>;
  errors: Record<string, number>;
  events: Record<string, number>;
  problems: string[];
  note?: string;
  rows: (MemoryRow & { minute: number; requests: number })[];
}

interface Search extends Recorded {
  what: string;
  count: number;
  passed: boolean;
  result: {
    statuses?: Record<string, number>;
    complete?: number;
    refused?: number;
    cut?: number;
  } | null;
  seconds: number;
}

interface Beside extends Recorded {
  load: number;
  threads: number;
  promptTokens: number;
  rows: BesideRow[];
  note?: string;
}

interface Bodies extends Recorded {
  bodies: number;
  longest: number;
  quiet: number;
  rows: BodiesRow[];
}

function read<T>(name: string): T | null {
  const file = path.join(raw, `${name}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as T) : null;
}

function table(head: string[], rows: (string | number)[][]): string {
  const line = (cells: (string | number)[]) =>
    `| ${cells.map((cell) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)).join(' | ')} |`;
  return [line(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}

function origin({ command, date, commit, machine }: Recorded): string {
  return `\`${command}\`, ${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, ${date}, commit ${commit}.`;
}

function streams(result: Streams): string {
  const { parser, lockstep, litellm, litellmVersion } = result;
  const { verdicts } = parser;
  const lines = [
    '## Faulty streams of vLLM',
    '',
    `${origin(result)} What is done to the streams: \`test/streams/faults.ts\`.`,
    '',
    `The relay’s parser read ${parser.streams.toLocaleString('en')} streams: ${verdicts.complete.toLocaleString('en')} whole answers, ${verdicts.refused.toLocaleString('en')} errors, **${verdicts.false} false completions**, ${verdicts.lost} good streams refused, ${verdicts.crash} undocumented errors.`,
    '',
    'The same streams over real sockets, as clients of a server in front of the fake vLLM see them:',
    '',
  ];
  const row = (name: string, one: SeenTally) => [
    name,
    one.streams,
    one.seen.complete,
    one.seen.error,
    `**${one.seen.false.toLocaleString('en')}**`,
    one.seen.other,
    one.seen.cut,
    one.seen.lost,
  ];
  lines.push(
    table(
      [
        'server',
        'streams',
        'whole answer',
        'error',
        'false completion',
        'other text, then an error',
        'end without an error',
        'good stream, no answer',
      ],
      [
        row('lockstep serve', lockstep),
        ...(litellm === null ? [] : [row(`LiteLLM proxy ${litellmVersion}`, litellm)]),
      ],
    ),
    '',
    'A false completion has a finish reason and `[DONE]`, and a text that vLLM did not write. LiteLLM runs with its provider `text-completion-openai`, without retries.',
  );
  if (litellm !== null) {
    const by = Object.entries(litellm.falseBy).filter(([, count]) => count > 0);
    by.sort(([, a], [, b]) => b - a);
    lines.push(
      '',
      `LiteLLM’s false completions by fault: ${by.map(([name, count]) => `${name} ${count}`).join(', ')}.`,
    );
  }
  return lines.join('\n');
}

function load(result: Load, title: string): string {
  const names = [...new Set(Object.values(result.outcomes).flatMap((row) => Object.keys(row)))];
  const kinds = Object.entries(result.outcomes).sort(([a], [b]) => (a < b ? -1 : 1));
  const servers = Object.keys(result.rows[0]?.memory ?? {});
  const listed = (counts: Record<string, number>) =>
    Object.entries(counts)
      .map(([name, count]) => `${name}: ${count.toLocaleString('en')}`)
      .join(', ');
  // At most 20 rows: the first, the last, and some between.
  const step = Math.max(1, Math.ceil(result.rows.length / 20));
  const shown = result.rows.filter((_, i) => i % step === 0 || i === result.rows.length - 1);
  return [
    `## ${title}`,
    '',
    origin(result),
    '',
    `${result.requests.toLocaleString('en')} requests; ${listed(result.events)}. Answers are compared with a reference.`,
    '',
    table(
      ['client', ...names],
      kinds.map(([kind, row]) => [kind, ...names.map((name) => row[name] ?? 0)]),
    ),
    '',
    `Errors that clients got, by code: ${listed(result.errors)}.`,
    '',
    result.problems.length === 0
      ? 'No wrong answer, no text of another client, no undocumented error, no answer cut but by SIGKILL.'
      : `Problems (the first 50 are kept):\n\n${counted(result.problems)}`,
    ...(result.note === undefined ? [] : ['', result.note]),
    '',
    `Resident memory (MiB) by the age of the process, over all processes of a server. The first third of the longest life is left out as warm-up; a median of the last third more than ${MAX_GROWTH} times the middle third's is a problem:`,
    '',
    table(
      [
        ...['server', 'processes', 'longest life (s)', 'middle third: lowest', 'median'],
        ...['last third: lowest', 'median', 'ratio of the medians'],
      ],
      servers.flatMap((name) => {
        const grown = growthOf(result.rows, name);
        if (grown === null) return [];
        const { seconds, processes, middle, last } = grown;
        const ratio = (last.median / middle.median).toFixed(2);
        return [
          [name, processes, seconds, middle.lowest, middle.median, last.lowest, last.median, ratio],
        ];
      }),
    ),
    '',
    'By time (in brackets the age of the process in seconds):',
    '',
    table(
      ['minute', ...servers, 'requests'],
      shown.map((row) => [
        row.minute,
        ...servers.map((name) => `${row.memory[name] ?? 'not known'} (${row.age[name]})`),
        row.requests,
      ]),
    ),
  ].join('\n');
}

/** Each problem once, with how often it came. */
function counted(problems: readonly string[]): string {
  const times = new Map<string, number>();
  for (const one of problems) times.set(one, (times.get(one) ?? 0) + 1);
  return [...times]
    .map(([one, count]) => `* ${one}${count > 1 ? ` (${count} times)` : ''}`)
    .join('\n');
}

function searches(results: Search[]): string {
  const told = ({ result: found }: Search): string => {
    if (found === null) return '';
    if (found.statuses !== undefined) {
      const statuses = Object.entries(found.statuses).map(([status, n]) => `${status}: ${n}`);
      return `answers by status: ${statuses.join(', ')}`;
    }
    return `streams: ${found.complete} whole, ${found.refused} refused before they began, ${found.cut} cut`;
  };
  return [
    '## Malformed requests, SIGTERMs',
    '',
    'Failures are defined in `test/malformed` and `test/sigterm`.',
    '',
    table(
      ['what', 'how many', 'failures', 'outcome', 'seconds', 'measured by'],
      results.map((row) => [
        row.what,
        row.count,
        row.passed ? 'none' : 'found',
        told(row),
        row.seconds,
        origin(row),
      ]),
    ),
  ].join('\n');
}

function beside(result: Beside): string {
  const { promptTokens, threads, load: busy, rows } = result;
  const ms = (value: number) => value.toFixed(1);
  return [
    '## Answers beside a long prompt',
    '',
    `${origin(result)} Prompt: ${promptTokens.toLocaleString('en')} tokens; ${threads} ${threads === 1 ? 'thread' : 'threads'}; load average at the end: ${busy.toFixed(1)}. [The bound](../../docs/server.md#decoding-during-a-long-prefill): a token takes on average at most twice as long beside the prompt as before it.`,
    '',
    table(
      [
        'engine',
        'answers at once',
        'ms a token, before',
        'ms a token, beside',
        'ratio',
        'longest pause before (ms)',
        'longest pause beside (ms)',
        'first token of the prompt, alone (s)',
        'beside the answers (s)',
      ],
      rows.map((row) => [
        row.engine,
        row.answers,
        ms(row.aloneMs),
        ms(row.besideMs),
        `**${row.ratio.toFixed(2)}**`,
        ms(row.longestAloneMs),
        ms(row.longestBesideMs),
        row.promptAloneSeconds.toFixed(1),
        row.promptBesideSeconds.toFixed(1),
      ]),
    ),
    ...(result.note === undefined ? [] : ['', result.note]),
  ].join('\n');
}

function ofMegabytes(result: Bodies): string {
  const { bodies, longest, quiet, rows } = result;
  return [
    '## Memory after bodies of megabytes',
    '',
    `${origin(result)} ${bodies} texts of up to ${longest / 1e6} MB, one by one, to \`/tokenize\` of a server of a tiny model. Native code of the tokenizer allocates in several threads. By default glibc gives each thread an arena and keeps freed memory there; the unit and the CPU image in \`deploy/\` set \`MALLOC_ARENA_MAX=1\`.`,
    '',
    table(
      [
        'MALLOC_ARENA_MAX',
        'RSS at the start (MiB)',
        'highest after a request (MiB)',
        `${quiet} s after the last request (MiB)`,
      ],
      rows.map((row) => [row.arenas ?? 'not set', row.start, row.most, row.last]),
    ),
  ].join('\n');
}

const [ofStreams, ofLoad, ofLoadVllm, ofBeside, ofBodies] = [
  read<Streams>('streams'),
  read<Load>('load'),
  read<Load>('load-vllm'),
  read<Beside>('beside'),
  read<Bodies>('bodies'),
];
const ofSearches = [read<Search>('malformed'), read<Search>('sigterms')].filter(
  (one) => one !== null,
);
const parts = [
  '# Serving under faults and load',
  'Made by `npx tsx bench/serving/report.ts` from `raw/`. Times and rates of one machine say nothing about another.',
  ...(ofStreams === null ? [] : [streams(ofStreams)]),
  ...(ofSearches.length === 0 ? [] : [searches(ofSearches)]),
  ...(ofBeside === null ? [] : [beside(ofBeside)]),
  ...(ofBodies === null ? [] : [ofMegabytes(ofBodies)]),
  ...(ofLoad === null ? [] : [load(ofLoad, `Mixed load for ${ofLoad.minutes} minutes`)]),
  ...(ofLoadVllm === null
    ? []
    : [load(ofLoadVllm, `Mixed load for ${ofLoadVllm.minutes} minutes, with the real vLLM`)]),
];
writeFileSync(path.join(packageRoot, 'bench', 'serving', 'RESULTS.md'), `${parts.join('\n\n')}\n`);
