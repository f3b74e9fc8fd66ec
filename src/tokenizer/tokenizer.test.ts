import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyTokenizer } from '../../test/tiny-checkpoint.ts';
import { packageRoot } from '../paths.ts';
import { cutCharacters, lastCut } from './cut.ts';
import { encodePieces } from './stream.ts';
import { readText } from './text.ts';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';

const smollm = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
const dir = mkdtempSync(path.join(tmpdir(), 'lockstep-tokenizer-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A SentencePiece-like BPE as Llama 2 and Mistral have it: byte fallback, dummy prefix, no pre-tokenizer. */
function metaspaceJson(): object {
  const words = ['▁', 'a', 'b', 'c', 'é', '▁a', 'ab', '▁ab', 'bc', 'ca', '▁b', '▁▁', '▁▁▁▁'];
  const vocab: Record<string, number> = { '<unk>': 0, '<s>': 1, '</s>': 2 };
  for (let byte = 0; byte < 256; byte++) {
    vocab[`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`] = 3 + byte;
  }
  words.forEach((word, at) => {
    vocab[word] = 259 + at;
  });
  const merges = [
    ['▁', 'a'],
    ['a', 'b'],
    ['▁', 'ab'],
    ['▁a', 'b'],
    ['b', 'c'],
    ['c', 'a'],
    ['▁', 'b'],
    ['▁', '▁'],
    ['▁▁', '▁▁'],
  ];
  const special = (id: number, content: string) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  return {
    version: '1.0',
    truncation: { direction: 'Right', max_length: 4, strategy: 'LongestFirst', stride: 0 },
    padding: null,
    added_tokens: [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab,
      merges,
    },
  };
}

async function pieces(tokenizer: Tokenizer, text: string, pieceLength: number): Promise<number[]> {
  const ids: number[] = [];
  const { vocabulary } = tokenizer;
  const texts = Array.from({ length: vocabulary.size }, (_, id) => vocabulary.text(id));
  const safe = cutCharacters(texts);
  const encode = async (part: string) => tokenizer.encode(part);
  const source = text.match(/.{1,700}/gsu)?.map((part) => ({ text: part, bytes: 0 })) ?? [];
  const options = { encode, safe, added: ['<|im_end|>'], pieceLength };
  for await (const piece of encodePieces(source, options)) ids.push(...piece.ids);
  return ids;
}

describe.skipIf(!existsSync(smollm))('byte-level BPE (SmolLM2)', () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(smollm);
  });

  test('knows its checkpoint', () => {
    const raw = readFileSync(path.join(smollm, 'tokenizer.json'));
    expect(tokenizer.sha256).toBe(createHash('sha256').update(raw).digest('hex'));
    expect(tokenizer.vocabulary.size).toBe(49152);
    expect([tokenizer.bos, tokenizer.ends]).toEqual([1, [2]]);
    expect(tokenizer.chatTemplate).toContain('<|im_start|>');
    expect(tokenizer.specialTokens['eos_token']).toBe('<|im_end|>');
    expect(tokenizer.vocabulary.special(2)).toBe(true);
    expect(tokenizer.vocabulary.special(20)).toBe(false);
  });

  test('the texts of the ids make up the text', async () => {
    const text = 'Hello\n  world, “quoted”.\r\n\tEnd';
    const ids = await tokenizer.encode(text);
    const joined = Buffer.concat([...ids].map((id) => tokenizer.bytes(id))).toString('utf8');
    expect(joined).toBe(text);
    expect(tokenizer.vocabulary.text((await tokenizer.encode('\n'))[0] as number)).toBe('\n');
    expect(tokenizer.vocabulary.select((word) => word === ' the')).toHaveLength(1);
  });

  test('decodes what it encoded, whole and id by id', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme' }), async (text) => {
        const ids = await tokenizer.encode(text);
        expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(text);
        const decoder = tokenizer.decoder({ skipSpecial: false });
        const parts = [...ids].map((id) => decoder.push(id));
        // A half character is held back, not shown as U+FFFD; one that the text itself has stays.
        if (!text.includes('\ufffd')) expect(parts.join('')).not.toContain('\ufffd');
        expect(parts.join('') + decoder.end()).toBe(text);
      }),
      { numRuns: 60, examples: [['\ufffd'], ['a\ufffdé']] },
    );
  });

  test('adds BOS on request, keeps special tokens written in text, skips them in decoding', async () => {
    const ids = await tokenizer.encode('a<|im_end|>', { bos: true });
    expect([ids[0], ids[2]]).toEqual([1, 2]);
    expect(tokenizer.decode(ids)).toBe('a');
    expect(await tokenizer.encode('')).toEqual(new Int32Array(0));
  });

  test.each([900, 1300, 4096])('pieces of %i give the ids of the whole', async (pieceLength) => {
    const shakespeare = path.join(packageRoot, '.lockstep', 'texts', 'shakespeare');
    const book = existsSync(shakespeare)
      ? readFileSync(path.join(shakespeare, readdirSync(shakespeare)[0] as string), 'utf8').slice(
          0,
          30_000,
        )
      : 'To be, or not to be: that is the question.\n'.repeat(400);
    const texts = [
      book,
      book.replaceAll('\n', '\r\n'),
      book.replaceAll(/\s+/g, ' '),
      '今日は晴れ、明日は雨。ça va — naïve 😀😀 e\u0301 \n\n\n   x\t\t'.repeat(150),
      `${'='.repeat(50)}\n${' '.repeat(40)}word<|im_end|>next, `.repeat(100),
      '3.14,2.718\n-1,00\n'.repeat(500),
    ];
    for (const text of texts) {
      const whole = [...(await tokenizer.encode(text))];
      expect(await pieces(tokenizer, text, pieceLength)).toEqual(whole);
    }
  });

  test('pieces of random text give the ids of the whole', async () => {
    const unit = fc.constantFrom(...'ab1 \n\r,.\'"-é今。😀', "'s", '  ', '<|im_end|>', 'the');
    await fc.assert(
      fc.asyncProperty(fc.array(unit, { minLength: 800, maxLength: 2500 }), async (units) => {
        const text = units.join('');
        expect(await pieces(tokenizer, text, 500)).toEqual([...(await tokenizer.encode(text))]);
      }),
      { numRuns: 25 },
    );
  });

  test('a stretch without any place to cut grows the piece; beyond the limit it is an error', async () => {
    const text = `word ${'ab'.repeat(2000)} word, `.repeat(3);
    expect(await pieces(tokenizer, text, 600)).toEqual([...(await tokenizer.encode(text))]);
    const run = async () => {
      const source = [{ text: '='.repeat(5000), bytes: 5000 }];
      const options = {
        encode: async (part: string) => tokenizer.encode(part),
        safe: new Set(' '),
        added: [],
      };
      for await (const _ of encodePieces(source, { ...options, pieceLength: 500, limit: 4000 }));
    };
    await expect(run()).rejects.toMatchObject({ code: 'LS_TEXT_UNSPLITTABLE' });
  });

  test('a file gives the ids of its text', async () => {
    const file = path.join(dir, 'text.txt');
    const text = 'Über-long line without breaks; naïve, 😀 and so on. '.repeat(6000);
    writeFileSync(file, text);
    const ids: number[] = [];
    let bytes = 0;
    for await (const piece of tokenizer.encodeFile(file, { bos: true })) {
      for (const id of piece.ids) ids.push(id);
      bytes = piece.bytes;
    }
    expect(bytes).toBe(Buffer.byteLength(text));
    expect(ids).toEqual([...(await tokenizer.encode(text, { bos: true }))]);
  });
});

describe('SentencePiece-like BPE', () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    writeFileSync(path.join(dir, 'tokenizer.json'), JSON.stringify(metaspaceJson()));
    writeFileSync(
      path.join(dir, 'config.json'),
      JSON.stringify({ vocab_size: 300, bos_token_id: 1, eos_token_id: [2, 0] }),
    );
    tokenizer = await loadTokenizer(dir);
  });

  test('gives real text for words, bytes and special tokens', () => {
    const { vocabulary } = tokenizer;
    expect(vocabulary.size).toBe(300);
    expect(vocabulary.text(3 + 0x0a)).toBe('\n');
    expect(vocabulary.select((text) => text === ' ab')).toEqual([266]);
    expect(vocabulary.text(1)).toBe('<s>');
    expect(vocabulary.text(299)).toBe('');
    expect([tokenizer.bos, tokenizer.ends]).toEqual([1, [0, 2]]);
  });

  test('ignores the stored truncation and drops the dummy prefix only at the start of a text', async () => {
    const ids = await tokenizer.encode('ab ab ab ab 😀\nab');
    expect(ids.length).toBeGreaterThan(4);
    expect(tokenizer.decode(ids)).toBe('ab ab ab ab 😀\nab');
    expect(tokenizer.decode(ids, { start: false })).toBe(' ab ab ab ab 😀\nab');
  });

  test('pieces give the ids of the whole', async () => {
    const unit = fc.constantFrom('a', 'b', 'c', 'é', ' ', '\n', '    ', ',', '今', '</s>');
    await fc.assert(
      fc.asyncProperty(fc.array(unit, { minLength: 800, maxLength: 2500 }), async (units) => {
        const text = units.join('');
        expect(await pieces(tokenizer, text, 500)).toEqual([...(await tokenizer.encode(text))]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('byte-level BPE with the pre-tokenizer of Qwen and Llama 3, and NFC', () => {
  // Qwen2's own pattern; Llama 3 differs in the number of digits, {1,3}.
  const pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
  const bytes = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  };
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const folder = path.join(dir, 'qwen');
    mkdirSync(folder);
    const json = {
      ...tinyTokenizer(),
      normalizer: { type: 'NFC' },
      pre_tokenizer: { type: 'Sequence', pretokenizers: [split, bytes] },
    };
    writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(json));
    tokenizer = await loadTokenizer(folder);
  });

  test('pieces give the ids of the whole', async () => {
    const unit = fc.constantFrom(
      ...[
        'a',
        'the',
        'in',
        'é',
        'e\u0301',
        '\u0338',
        '1',
        '23',
        ' ',
        '  ',
        '\n',
        '\n\n',
        '\r\n',
        '\t',
      ],
      ...['.', ',', '...', "'s", "'LL", '(', '"', '今日', '。', '😀', '```', '<|im_end|>', '='],
    );
    await fc.assert(
      fc.asyncProperty(fc.array(unit, { minLength: 800, maxLength: 2500 }), async (units) => {
        const text = units.join('');
        expect(await pieces(tokenizer, text, 500)).toEqual([...(await tokenizer.encode(text))]);
      }),
      { numRuns: 40 },
    );
  });
});

describe('cuts', () => {
  test('stand after a letter or digit, before a character that no token joins to one', () => {
    const safe = cutCharacters(['a', 'b.c', ' the', '\n', '1,', '今。']);
    expect([...safe].includes(' ')).toBe(true);
    for (const joined of ['.', ',', '。']) expect(safe.has(joined)).toBe(false);
    expect(lastCut('word word, 7\n!', 0, 99, safe)).toBe(12);
    expect(lastCut('word word', 0, 3, safe)).toBe(-1);
    expect(lastCut('𝒳 y', 0, 9, safe)).toBe(2);
    expect(lastCut('😀 . \n', 0, 9, safe)).toBe(-1);
  });
});

describe('text files', () => {
  async function read(bytes: Uint8Array, pieceBytes?: number): Promise<string> {
    const file = path.join(dir, 'bytes.txt');
    writeFileSync(file, bytes);
    let text = '';
    for await (const piece of readText(file, pieceBytes)) text += piece.text;
    return text;
  }

  test('characters are never split, whatever the size of the pieces', async () => {
    const text = '\ufeffaé今😀\0\r\n'.repeat(50);
    // A mark at the start is no part of the text, as in the trainer; elsewhere it is a character.
    const said = text.slice(1);
    for (const size of [1, 2, 3, 5, 64]) expect(await read(Buffer.from(text), size)).toBe(said);
    expect(await read(Buffer.from('\ufeff'), 1)).toBe('');
    expect(await read(new Uint8Array(0))).toBe('');
  });

  test.each([
    [[0x61, 0xff, 0x62], 1, 'ff'],
    [[0x61, 0xe4, 0xbb], 1, 'e4'],
    [[0xed, 0xa0, 0x80], 0, 'ed'],
    [[0x61, 0x62, 0x80], 2, '80'],
    [[0xc3, 0xa9, 0xc0, 0xaf], 2, 'c0'],
    [[0xf0, 0x9f, 0x98, 0x41], 0, 'f0'],
  ])('bytes %j are refused at offset %i', async (bytes, offset, byte) => {
    for (const size of [1, 2, 64]) {
      await expect(read(Uint8Array.from(bytes), size)).rejects.toMatchObject({
        code: 'LS_TEXT_ENCODING',
        message: expect.stringContaining(`0x${byte} at offset ${offset} `),
      });
    }
  });

  test('a missing file is named', async () => {
    const run = async () => {
      for await (const _ of readText(path.join(dir, 'absent.txt')));
    };
    await expect(run()).rejects.toMatchObject({ code: 'LS_TEXT_MISSING' });
  });
});
