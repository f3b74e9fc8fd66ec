// Requests that are wrong in one or several ways, as bytes for a socket: values, JSON, encodings, headers,
// methods, paths, HTTP itself. They begin as what docs/openapi.json allows.
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { randomIntegers } from '../helpers/random.ts';
import { valuesOf } from './grammar.ts';
import type { OpenApi, Schema } from './openapi.ts';

export interface RawRequest {
  /** What was done to it, in words. */
  how: string[];
  /** Path in the description, as `/v1/completions`. */
  route: string;
  bytes: Buffer;
  /** The server can tell where it ends. */
  whole: boolean;
}

type Random = (below: number) => number;
interface Parts {
  method: string;
  target: string;
  version: string;
  headers: [name: string, value: string][];
  body: Buffer;
  /** Appended as it stands behind the body. */
  tail: Buffer;
}

const SOME_JSON: unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e300,
  Number.MAX_SAFE_INTEGER + 2,
  '',
  'x',
  '\ud800',
  'x'.repeat(5000),
  [],
  [[]],
  {},
  { a: 1 },
  { toString: 1 },
  { type: 'text' },
  { length: -1 },
  [null],
  Array(300).fill(0),
];
const SOME_KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '',
  'a.b',
  'a[0]',
  '\ud800',
  'length',
];

/** Puts some other value somewhere into a body. */
function spoilValue(value: unknown, random: Random): unknown {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  if (value === null || typeof value !== 'object' || random(4) === 0) return pick(SOME_JSON);
  if (Array.isArray(value)) {
    if (value.length === 0 || random(4) === 0) return [...value, pick(SOME_JSON)];
    const at = random(value.length);
    return value.map((one, i) => (i === at ? spoilValue(one, random) : one));
  }
  const copy: Record<string, unknown> = { ...value };
  const keys = Object.keys(copy);
  const what = random(4);
  if (keys.length === 0 || what === 0) {
    const name = pick(SOME_KEYS);
    Object.defineProperty(copy, name, {
      value: pick(SOME_JSON),
      enumerable: true,
      configurable: true,
    });
  } else if (what === 1) {
    delete copy[pick(keys)];
  } else {
    const key = pick(keys);
    copy[key] = spoilValue(copy[key], random);
  }
  return copy;
}

const BODY: Record<string, (body: Buffer, random: Random) => Buffer> = {
  'cut body': (body, random) => body.subarray(0, random(body.length + 1)),
  'junk in body': (body, random) => insert(body, Buffer.from([random(256), random(256)]), random),
  'not UTF-8': (body, random) => insert(body, Buffer.from([0xff, 0xc0, 0xed, 0xa0, 0x80]), random),
  'UTF-16': (body) => Buffer.from(body.toString('utf8'), 'utf16le'),
  'byte order mark': (body) => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), body]),
  'deep JSON': (_, random) => {
    const depth = 1000 + random(20_000);
    return Buffer.from(`{"prompt":${'['.repeat(depth)}${']'.repeat(depth)}}`);
  },
  'deep object': (body, random) => {
    const depth = 200 + random(5000);
    const deep = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
    return Buffer.from(body.toString('utf8').replace(/\}$/, `,"chat_template_kwargs":${deep}}`));
  },
  'a key twice': (body) =>
    Buffer.from(body.toString('utf8').replace(/^\{/, '{"model":"toy","model":7,')),
  'huge number': (body) => Buffer.from(body.toString('utf8').replace(/\d+/, '9'.repeat(400))),
  'other JSON': (_, random) =>
    Buffer.from(
      ['null', '[]', '"a"', '7', '', ' ', '{}', '{"a"', 'NaN', "{'a':1}"][random(10)] as string,
    ),
  'larger than allowed': (_, random) => Buffer.alloc(70_000 + random(3), 0x20),
};

const HEADERS: Record<string, (parts: Parts, random: Random) => void> = {
  'content type': (parts, random) =>
    set(
      parts,
      'content-type',
      [
        'text/plain',
        '',
        'application/json; charset=utf-16',
        'application/json; charset=x',
        'application/json;;;',
        'application/x-www-form-urlencoded',
        'multipart/form-data; boundary=x',
        '\u00ff',
      ][random(8)] as string,
    ),
  'content encoding': (parts, random) => {
    const name = ['gzip', 'br', 'deflate', 'identity', 'x', 'gzip, gzip', ''][random(7)] as string;
    set(parts, 'content-encoding', name);
    if (random(2) === 0) parts.body = gzipSync(parts.body).subarray(0, random(60) + 10);
  },
  'content length': (parts, random) =>
    set(
      parts,
      'content-length',
      [
        '0',
        '-1',
        '1e3',
        'x',
        '',
        '99999999999999999999',
        String(parts.body.length + 1 + random(9)),
      ][random(7)] as string,
    ),
  'length and chunks': (parts, random) => {
    parts.headers.push([
      'transfer-encoding',
      ['chunked', 'gzip', 'chunked, chunked', 'x'][random(4)] as string,
    ]);
  },
  'broken chunks': (parts, random) => {
    remove(parts, 'content-length');
    set(parts, 'transfer-encoding', 'chunked');
    const bad = ['zz\r\n', '-1\r\n', 'ffffffffffffffff\r\n', '5\r\nab', '0\r\n\r\n0\r\n\r\n'][
      random(5)
    ];
    parts.body = Buffer.from(bad as string);
  },
  host: (parts, random) =>
    set(
      parts,
      'host',
      ['', 'example.org', '[::1', 'a b', '127.0.0.1:x', '\u00e9', 'localhost:1:2'][
        random(7)
      ] as string,
    ),
  'two hosts': (parts) => parts.headers.push(['host', 'localhost']),
  'no host': (parts) => remove(parts, 'host'),
  authorization: (parts, random) =>
    set(
      parts,
      'authorization',
      ['Bearer', 'Bearer x', 'Basic eA==', 'x'.repeat(9000), ''][random(5)] as string,
    ),
  'request id': (parts, random) =>
    set(parts, 'x-request-id', ['a b', '<x>', 'x'.repeat(500), '\u00ff', ''][random(5)] as string),
  'many headers': (parts, random) => {
    for (let i = 0; i < 200 + random(2000); i++) parts.headers.push([`x-${i}`, 'y']);
  },
  'large header': (parts, random) =>
    parts.headers.push(['x-large', 'y'.repeat(10_000 + random(20_000))]),
  'header name': (parts, random) =>
    parts.headers.push([['a b', '', '\u0000', 'x\r\ny', ':'][random(5)] as string, 'z']),
  'header value': (parts, random) =>
    parts.headers.push(['x-value', ['\u0000', 'a\rb', 'a\nb', '\u007f'][random(4)] as string]),
  expect: (parts, random) => set(parts, 'expect', ['100-continue', 'x', ''][random(3)] as string),
  upgrade: (parts) => {
    set(parts, 'connection', 'upgrade');
    set(parts, 'upgrade', 'websocket');
  },
  method: (parts, random) => {
    parts.method = [
      'GET',
      'PUT',
      'DELETE',
      'TRACE',
      'OPTIONS',
      'HEAD',
      'PATCH',
      'post',
      'FOO',
      'CONNECT',
      '',
    ][random(11)] as string;
  },
  target: (parts, random) => {
    parts.target = [
      '/v1/models/%',
      '/v1/models/%ff%fe',
      '/v1/models/..%2f..%2fetc',
      '/v1/files/..%2f..%2fetc/content',
      '/v1/batches/%2e%2e%2fbatches?limit=-1&after=__proto__',
      '/page/../../package.json',
      '/page/%2e%2e/%2e%2e/package.json',
      '/page/%00',
      `/${'a'.repeat(9000)}`,
      '//v1/completions',
      '/V1/Completions/',
      'http://example.org/v1/completions',
      '*',
      '/v1/completions?a[b]=1&a[b][c]=2&__proto__=3',
      '/v1/completions#x',
      '/\u0001',
      'v1/completions',
      '',
    ][random(18)] as string;
  },
  version: (parts, random) => {
    parts.version = ['HTTP/1.0', 'HTTP/2.0', 'HTTP/0.9', 'HTTP/1.2', 'XTTP/1.1', ''][
      random(6)
    ] as string;
  },
  'bytes behind it': (parts, random) => {
    parts.tail = Buffer.from(
      ['GET', '\r\n\r\n', '\u0000\u0001', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'][random(4)] as string,
    );
  },
};

/** @param seed decides all of them; the same seed gives the same requests */
export function malformedRequests(document: OpenApi, seed: number, count: number): RawRequest[] {
  const { schemas } = document.components;
  const { posts, others } = operationsOf(document);
  const one = fc.oneof(
    ...posts.map(({ schema, ...to }) => requestOf(to, valuesOf(schema, schemas))),
    fc.constantFrom(...others).chain((to) => requestOf(to, fc.constant(undefined))),
  );
  return fc.sample(one, { seed, numRuns: count });
}

/** Where a request goes, and how its body is written. */
interface To {
  method: string;
  route: string;
  form: boolean;
}

/** Operations with a body, and those without. */
function operationsOf({ paths }: OpenApi): { posts: (To & { schema: Schema })[]; others: To[] } {
  const posts: (To & { schema: Schema })[] = [];
  const others: To[] = [];
  for (const [route, operations] of Object.entries(paths)) {
    for (const [name, operation] of Object.entries(operations)) {
      const method = name.toUpperCase();
      const [type, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
      if (content === undefined) others.push({ method, route, form: false });
      else posts.push({ method, route, form: type !== 'application/json', schema: content.schema });
    }
  }
  return { posts, others };
}

function requestOf(to: To, value: fc.Arbitrary<unknown>): fc.Arbitrary<RawRequest> {
  return fc
    .tuple(value, fc.integer({ min: 1, max: 0x7fffffff }))
    .map(([body, own]) => spoiled(to, body, randomIntegers(own)));
}

/** The ids of nobody's file and batch. */
const IDS: Record<string, string> = {
  model: 'toy',
  file_id: `file-${'0'.repeat(24)}`,
  batch_id: `batch_${'0'.repeat(24)}`,
};

/** A form of these fields; `file` is a file. */
function formOf(value: unknown): string {
  const fields = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  const parts = fields.map(([name, field]) => {
    const filename = name === 'file' ? '; filename="a.jsonl"' : '';
    const text = typeof field === 'string' ? field : JSON.stringify(field);
    return `--X\r\ncontent-disposition: form-data; name="${name}"${filename}\r\n\r\n${text}\r\n`;
  });
  return `${parts.join('')}--X--\r\n`;
}

function spoiled({ method, route, form }: To, body: unknown, random: Random): RawRequest {
  const how: string[] = [];
  let value = body;
  const times = random(3);
  for (let i = 0; i < times && body !== undefined; i++) {
    how.push('value');
    value = spoilValue(value, random);
  }
  const parts: Parts = {
    method,
    target: route.replace(/\{(\w+)\}/, (_, name: string) => IDS[name] ?? ''),
    version: 'HTTP/1.1',
    headers: [
      ['host', 'localhost'],
      ['connection', 'close'],
    ],
    body: Buffer.from(value === undefined ? '' : form ? formOf(value) : JSON.stringify(value)),
    tail: Buffer.alloc(0),
  };
  const type = form ? 'multipart/form-data; boundary=X' : 'application/json';
  if (body !== undefined) parts.headers.push(['content-type', type]);
  if (body !== undefined && random(3) === 0) {
    const name = key(BODY, random);
    how.push(name);
    parts.body = BODY[name]?.(parts.body, random) ?? parts.body;
  }
  if (body !== undefined) parts.headers.push(['content-length', String(parts.body.length)]);
  const whole = random(3) > 0;
  if (!whole) {
    const name = key(HEADERS, random);
    how.push(name);
    HEADERS[name]?.(parts, random);
  }
  return { how, route, bytes: written(parts), whole };
}

function written({ method, target, version, headers, body, tail }: Parts): Buffer {
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const head = `${method} ${target} ${version}\r\n${lines}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body, tail]);
}

function key(table: object, random: Random): string {
  const names = Object.keys(table);
  return names[random(names.length)] as string;
}

function insert(body: Buffer, bytes: Buffer, random: Random): Buffer {
  const at = random(body.length + 1);
  return Buffer.concat([body.subarray(0, at), bytes, body.subarray(at)]);
}

function remove(parts: Parts, name: string): void {
  parts.headers = parts.headers.filter(([own]) => own !== name);
}

function set(parts: Parts, name: string, value: string): void {
  remove(parts, name);
  parts.headers.push([name, value]);
}
