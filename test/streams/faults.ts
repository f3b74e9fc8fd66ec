// Event streams as vLLM sends them, and the ways in which a connection or a proxy spoils one. A seed
// decides everything, so that a stream that went wrong can be made again.
import { gzipSync } from 'node:zlib';
import { randomIntegers } from '../helpers/random.ts';

/** What vLLM generated, before anything happened to it. */
export interface Original {
  tokens: number[];
  reason: 'stop' | 'length';
  /** Token ids of the prompt, which vLLM repeats. */
  prompt: number[];
}

export interface FaultyStream {
  seed: number;
  /** What happened, as `double-event`; `none` in a few streams. */
  fault: Fault;
  original: Original;
  /** The bytes in the pieces in which they arrive. */
  packets: Uint8Array[];
  /** The connection breaks behind the last packet, instead of ending. */
  broken: boolean;
  /** Nothing was lost: an answer has to be complete. */
  harmless: boolean;
}

type Random = (below: number) => number;

/** No packet is smaller where packets are doubled, lost or reordered: the network moves whole packets. */
const LEAST_PACKET = 48;
/** The id that ends a text. */
export const EOS = 256;
/** What a proxy may put into a stream. No digit: a changed digit is another token, which nobody can tell. */
const JUNK = ['\u0000', '{', '}', '"', ']', '\\', 'x', '\n\n', 'data: ', '\r\r', ': ', '<html>'];

/** Value by value, what an event may not look like. */
const WRONG_JSON: readonly ((event: string) => string)[] = [
  (event) => event.slice(0, event.length >> 1),
  (event) => event.replace('"choices":[', '"choices":{'),
  (event) => event.replace(/"choices":\[.*\],"usage"/, '"choices":null,"usage"'),
  (event) => event.replace(/"index":\d+/, '"index":-1'),
  (event) => event.replace(/"index":\d+/, '"index":"0"'),
  (event) => event.replace(/"index":\d+/, '"index":99'),
  (event) => event.replace(/"token_ids":\[[^\]]*\]/, '"token_ids":"97"'),
  (event) => event.replace(/"token_ids":\[[^\]]*\]/, '"token_ids":[1e999]'),
  (event) => event.replace(/"token_ids":\[[^\]]*\]/, '"token_ids":[-1]'),
  (event) => event.replace(/"token_ids":\[[^\]]*\]/, '"token_ids":null'),
  (event) => event.replace(/"token_ids":\[[^\]]*\]/, '"token_ids":[1.5]'),
  (event) => event.replace(/"finish_reason":[^,]*/, '"finish_reason":"abort"'),
  (event) => event.replace(/"finish_reason":[^,]*/, '"finish_reason":7'),
  (event) => event.replace(/"finish_reason":[^,]*/, '"finish_reason":{"a":[]}'),
  (event) => event.replace(/ogprobs":.*?,"finish_re/, ''),
  (event) => event.replace('"index":0', '"index":0,"token_id":[97]'),
  (event) => event.replace(/"usage":\{[^}]*\}/, '"usage":null'),
  (event) => event.replace(/"completion_tokens":\d+/, '"completion_tokens":"4"'),
  () => '{"error":{"message":"EngineCore encountered an issue","code":500}}',
  () => '{"error":"overloaded"}',
  () => '[]',
  () => 'null',
  () => '"text"',
  () => `${'['.repeat(5000)}`,
];

type Spoil = (
  stream: { events: string[]; bytes(): Uint8Array },
  random: Random,
  other: () => string[],
) => { events?: string[]; packets?: Uint8Array[]; broken?: boolean; harmless?: boolean };

/** One fault each. A stream is spoiled as events, or as the packets that carry them. */
const FAULTS = {
  none: () => ({ harmless: true }),
  'cut-event': ({ events }, random) => ({ events: events.slice(0, random(events.length - 1)) }),
  'cut-byte': ({ bytes }, random) => {
    const all = bytes();
    return {
      packets: split(all.subarray(0, random(all.length)), random, 1),
      broken: random(2) === 0,
    };
  },
  'early-done': ({ events }, random) => ({
    events: [...events.slice(0, random(events.length - 1)), '[DONE]'],
  }),
  'lose-event': ({ events }, random) => ({ events: without(events, random(events.length)) }),
  'double-event': ({ events }, random) => {
    const at = random(events.length);
    return { events: [...events.slice(0, at + 1), ...events.slice(at)] };
  },
  'double-part': ({ events }, random) => {
    const [from, to] = range(events.length, random);
    return { events: [...events.slice(0, to), ...events.slice(from)] };
  },
  'swap-events': ({ events }, random) => {
    const [a, b] = [random(events.length), random(events.length)];
    const list = [...events];
    [list[a], list[b]] = [list[b] as string, list[a] as string];
    return { events: list };
  },
  shuffle: ({ events }, random) => ({ events: shuffled(events, random) }),
  'other-event': ({ events }, random, other) => {
    const [list, at] = [other(), random(events.length)];
    return {
      events: [...events.slice(0, at), list[random(list.length)] as string, ...events.slice(at)],
    };
  },
  'other-tail': ({ events }, random, other) => {
    const list = other();
    const at = random(Math.min(list.length, events.length));
    return { events: [...events.slice(0, at), ...list.slice(at)] };
  },
  'lose-packet': ({ bytes }, random) => {
    const packets = split(bytes(), random, LEAST_PACKET);
    return { packets: without(packets, random(packets.length)) };
  },
  'double-packet': ({ bytes }, random) => {
    const packets = split(bytes(), random, LEAST_PACKET);
    const at = random(packets.length);
    return { packets: [...packets.slice(0, at + 1), ...packets.slice(at)] };
  },
  'shuffle-packets': ({ bytes }, random) => ({
    packets: shuffled(split(bytes(), random, LEAST_PACKET), random),
  }),
  junk: ({ bytes }, random) => {
    const [all, word] = [bytes(), Buffer.from(JUNK[random(JUNK.length)] as string)];
    const at = random(all.length);
    return {
      packets: split(Buffer.concat([all.subarray(0, at), word, all.subarray(at)]), random, 1),
    };
  },
  'not-utf8': ({ bytes }, random) => {
    const [all, word] = [
      bytes(),
      Buffer.from([0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80].slice(random(6))),
    ];
    const at = random(all.length);
    return {
      packets: split(Buffer.concat([all.subarray(0, at), word, all.subarray(at)]), random, 1),
    };
  },
  'wrong-json': ({ events }, random) => {
    const at = random(events.length - 1);
    const spoil = WRONG_JSON[random(WRONG_JSON.length)] as (event: string) => string;
    return { events: events.map((event, i) => (i === at ? spoil(event) : event)) };
  },
  utf16: ({ bytes }, random) => {
    const little = Buffer.from(Buffer.from(bytes()).toString('utf8'), 'utf16le');
    return { packets: split(random(2) === 0 ? little : little.swap16(), random, 1) };
  },
  latin1: ({ bytes }, random) => ({
    packets: split(Buffer.from(Buffer.from(bytes()).toString('utf8'), 'latin1'), random, 1),
  }),
  gzip: ({ bytes }, random) => ({ packets: split(gzipSync(bytes()), random, 1) }),
  html: () => ({ packets: [Buffer.from('<html><body>502 Bad Gateway</body></html>\n')] }),
  empty: () => ({ packets: [] }),
  // What is allowed to an event stream: a mark at its start, other line ends, comments, single bytes.
  bom: ({ bytes }, random) => ({
    packets: split(Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), bytes()]), random, 1),
    harmless: true,
  }),
  'line-ends': ({ bytes }, random) => {
    const end = random(2) === 0 ? '\r\n' : '\r';
    const text = Buffer.from(bytes()).toString('utf8').replaceAll('\n', end);
    return { packets: split(Buffer.from(text), random, 1), harmless: true };
  },
  comments: ({ bytes }, random) => {
    const text = Buffer.from(bytes()).toString('utf8').replaceAll('\n\n', '\n\n: wait\n\n');
    return { packets: split(Buffer.from(text), random, 1), harmless: true };
  },
  'byte-by-byte': ({ bytes }) => ({
    packets: Array.from(bytes(), (byte) => Uint8Array.of(byte)),
    harmless: true,
  }),
} satisfies Record<string, Spoil>;

export type Fault = keyof typeof FAULTS;
export const faultNames = Object.keys(FAULTS) as Fault[];

/**
 * A stream and what happened to it.
 *
 * @param asked what a real request asked for; left out, the seed decides
 */
export function faultyStream(
  seed: number,
  asked: { prompt?: number[]; maxTokens?: number; logprobs?: boolean } = {},
): FaultyStream {
  // Neighbouring seeds give neighbouring first numbers.
  const random = randomIntegers(Math.imul(seed + 1, 2654435761));
  for (let i = 0; i < 4; i++) random(2);
  const fault = faultNames[random(faultNames.length)] as Fault;
  const { original, events } = generated(random, 'cmpl-own', asked);
  const other = () =>
    generated(random, 'cmpl-other', {
      ...asked,
      prompt: original.prompt.map(() => 97 + random(26)).fill(EOS, 0, 1),
    }).events;
  const bytes = () => framed(events);
  const spoil: Spoil = FAULTS[fault];
  const made = spoil({ events, bytes }, random, other);
  const packets = made.packets ?? split(framed(made.events ?? events), random, 1);
  const { broken = false, harmless = false } = made;
  return { seed, fault, original, packets, broken, harmless };
}

function generated(
  random: Random,
  id: string,
  asked: Parameters<typeof faultyStream>[1] = {},
): { original: Original; events: string[] } {
  const prompt = asked.prompt ?? Array.from({ length: 1 + random(40) }, () => 97 + random(26));
  const count = prompt.length;
  const most = asked.maxTokens ?? 1 + random(24);
  const size = random(2) === 0 ? most : 1 + random(most);
  const tokens = Array.from({ length: size }, () => 97 + random(26));
  if (size < most) tokens[size - 1] = EOS;
  const reason = size < most ? 'stop' : 'length';
  const events: string[] = [];
  const event = (choices: string, to: number) =>
    `{"id":"${id}","object":"text_completion","created":1,"model":"café","choices":[${choices}],"usage":{"prompt_tokens":${count},"total_tokens":${count + to},"completion_tokens":${to}}}`;
  for (let from = 0; from < size; ) {
    const to = Math.min(size, from + 1 + random(3));
    const ids = tokens.slice(from, to);
    const text = String.fromCharCode(...ids.filter((one) => one !== EOS));
    const logprobs = asked.logprobs
      ? `{"token_logprobs":[${ids.map(() => -0.5)}],"top_logprobs":[${ids.map((one) => `{"token_id:${one}":-0.5}`)}]}`
      : 'null';
    const ended = to === size ? `"${reason}"` : 'null';
    const first = from === 0 ? `"prompt_token_ids":[${prompt}],` : '';
    events.push(
      event(
        `{"index":0,"text":"${text}","logprobs":${logprobs},"finish_reason":${ended},"stop_reason":null,${first}"token_ids":[${ids}]}`,
        to,
      ),
    );
    from = to;
  }
  events.push(event('', size), '[DONE]');
  return { original: { tokens, reason, prompt }, events };
}

function framed(events: readonly string[]): Buffer {
  return Buffer.from(events.map((event) => `data: ${event}\n\n`).join(''));
}

/** Pieces of `least` bytes and more, so that events begin and end anywhere in them. */
function split(bytes: Uint8Array, random: Random, least: number): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const to = from + least + random(600);
    packets.push(bytes.subarray(from, to));
    from = to;
  }
  return packets;
}

function without<T>(list: readonly T[], at: number): T[] {
  return [...list.slice(0, at), ...list.slice(at + 1)];
}

function range(length: number, random: Random): [number, number] {
  const from = random(length);
  return [from, from + 1 + random(length - from)];
}

function shuffled<T>(list: readonly T[], random: Random): T[] {
  const mixed = [...list];
  for (let i = mixed.length - 1; i > 0; i--) {
    const j = random(i + 1);
    [mixed[i], mixed[j]] = [mixed[j] as T, mixed[i] as T];
  }
  return mixed;
}
