// The checkpoint's own tokenizer in Node: ids and text both ways, and the vocabulary that policies see.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer as NativeTokenizer } from 'tokenizers';
import { checkNames } from '../checkpoint-names.ts';
import { LockstepError } from '../errors.ts';
import type { Vocabulary } from '../policies/policy.ts';
import { systemProblem } from '../system-error.ts';
import { readTemplates, specialTexts, type TemplateSource } from '../template/source.ts';
import { type TokenBytes, type TokenizerJson, tokenBytes, tokenizerSize } from './bytes.ts';
import { checkTokenizer } from './check.ts';
import { cutCharacters } from './cut.ts';
import { type DecodeOptions, TextDecoderOfTokens } from './decoder.ts';
import { endIds, readSettings, readTokenizerSettings } from './ends.ts';
import { encodePieces, type StreamOptions, type TokenPiece } from './stream.ts';
import { readText } from './text.ts';

export interface EncodeOptions {
  /** Put the beginning-of-sequence id first (a contract's `tokenizer.bos`). Default false. */
  bos?: boolean;
  /** `encode`: stop a long text once its ids are more than this; the ids are then those of its beginning. */
  most?: number;
}

/** A checkpoint's tokenizer. Special tokens written out in a text become their ids, as in transformers. */
export interface Tokenizer {
  /** Folder it was read from. */
  readonly dir: string;
  /** SHA-256 of the bytes of tokenizer.json, in lowercase hexadecimal digits. */
  readonly sha256: string;
  /** Token ids that the model knows: rows of its embedding where config.json says so. */
  readonly vocabulary: Vocabulary;
  /** Beginning-of-sequence id of the checkpoint, or null. */
  readonly bos: number | null;
  /** Whether the tokenizer itself puts it in front of a text, as transformers does by default. */
  readonly addsBos: boolean;
  /** Ids that end an answer, as the checkpoint's files say; a contract's `tokenizer.ends` decides. */
  readonly ends: readonly number[];
  /** Text of the special tokens that chat templates name: `bos_token`, `eos_token`, ... */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** The Jinja source of the chat template, or null. */
  readonly chatTemplate: string | null;
  /** The file that it is from, or null. */
  readonly chatTemplateFile: string | null;
  /** The template for requests that bring tools, where it is another one. */
  readonly toolTemplate: TemplateSource | null;
  /** Ids of a text. No special token is added but, on request, BOS. */
  encode(text: string, options?: EncodeOptions): Promise<Int32Array>;
  /** Ids of a UTF-8 file, piece by piece in bounded memory; the same ids as of the whole text. */
  encodeFile(file: string, options?: EncodeOptions): AsyncGenerator<TokenPiece>;
  /** Text of ids. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  /** Incremental decoding, safe for characters that span ids. */
  decoder(options?: DecodeOptions): TextDecoderOfTokens;
  /** Bytes of an id; none for an id that the tokenizer does not define. */
  bytes(id: number): Uint8Array;
}

/**
 * Load the tokenizer of a Hugging Face checkpoint folder.
 *
 * @throws LS_TOKENIZER_MISSING without a readable tokenizer.json
 * @throws LS_TOKENIZER_UNSUPPORTED for tokenizers that are neither byte-level nor SentencePiece-like
 * @throws LS_TOKENIZER_PATTERN, LS_TOKENIZER_SIZE for what could stop this process (tokenizer-check.ts)
 */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  await checkNames(dir);
  const file = path.join(dir, 'tokenizer.json');
  const raw = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError(
      'LS_TOKENIZER_MISSING',
      `expected ${file}, got ${systemProblem(cause)}`,
      {
        fix: 'Save the checkpoint with its fast tokenizer (tokenizer.json).',
        cause,
      },
    );
  });
  const { native, json } = parse(raw, file);
  const [config, generation, settings] = await Promise.all([
    readSettings(path.join(dir, 'config.json')),
    readSettings(path.join(dir, 'generation_config.json')),
    readTokenizerSettings(dir),
  ]);
  const own = tokenizerSize(json);
  const modelSize = config['vocab_size'];
  const size = typeof modelSize === 'number' ? modelSize : own;
  const specialTokens = specialTexts(settings);
  const idOf = (name: string): number | null =>
    specialTokens[name] === undefined ? null : native.tokenToId(specialTokens[name]);
  const bos = idOf('bos_token') ?? asId(config['bos_token_id']);
  const templates = await readTemplates(dir, settings);
  const ends = endIds({ config, generation, settings }, () => json, size);
  return new LoadedTokenizer({
    dir,
    sha256: createHash('sha256').update(raw).digest('hex'),
    native,
    json,
    tokens: tokenBytes(json, Math.max(own, size)),
    size,
    bos,
    addsBos: await addsBos(native, bos),
    ends,
    specialTokens,
    chatTemplate: templates.usual?.text ?? null,
    chatTemplateFile: templates.usual?.file ?? null,
    toolTemplate: templates.tools,
  });
}

interface Parts {
  dir: string;
  sha256: string;
  native: NativeTokenizer;
  json: TokenizerJson;
  tokens: TokenBytes;
  size: number;
  bos: number | null;
  addsBos: boolean;
  ends: readonly number[];
  specialTokens: Readonly<Record<string, string>>;
  chatTemplate: string | null;
  chatTemplateFile: string | null;
  toolTemplate: TemplateSource | null;
}

/** Texts longer than this are encoded in pieces: no single long stretch of work for the thread pool. */
const longText = 1 << 18;

class LoadedTokenizer implements Tokenizer {
  readonly dir: string;
  readonly sha256: string;
  readonly vocabulary: Vocabulary;
  readonly bos: number | null;
  readonly addsBos: boolean;
  readonly ends: readonly number[];
  readonly specialTokens: Readonly<Record<string, string>>;
  readonly chatTemplate: string | null;
  readonly chatTemplateFile: string | null;
  readonly toolTemplate: TemplateSource | null;
  readonly #native: NativeTokenizer;
  readonly #tokens: TokenBytes;
  readonly #special: ReadonlySet<number>;
  readonly #added: readonly string[];
  #safe: ReadonlySet<string> | undefined;

  constructor(parts: Parts) {
    this.dir = parts.dir;
    this.sha256 = parts.sha256;
    this.bos = parts.bos;
    this.addsBos = parts.addsBos;
    this.ends = parts.ends;
    this.specialTokens = parts.specialTokens;
    this.chatTemplate = parts.chatTemplate;
    this.chatTemplateFile = parts.chatTemplateFile;
    this.toolTemplate = parts.toolTemplate;
    this.#native = parts.native;
    this.#tokens = parts.tokens;
    const added = parts.json.added_tokens ?? [];
    this.#special = new Set(added.filter((token) => token.special).map((token) => token.id));
    this.#added = added.map((token) => token.content);
    this.vocabulary = makeVocabulary(parts.tokens, this.#special, parts.size);
  }

  async encode(text: string, options: EncodeOptions = {}): Promise<Int32Array> {
    const { bos = false, most = Number.POSITIVE_INFINITY } = options;
    const pieces: Int32Array[] = bos ? [this.#bosId()] : [];
    if (text.length <= longText) {
      pieces.push(Int32Array.from(await this.#encode(text)));
    } else {
      const source = [{ text, bytes: 0 }];
      let count = 0;
      for await (const piece of encodePieces(source, this.#stream())) {
        pieces.push(piece.ids);
        count += piece.ids.length;
        if (count > most) break;
      }
    }
    return concatenate(pieces);
  }

  async *encodeFile(file: string, { bos = false }: EncodeOptions = {}): AsyncGenerator<TokenPiece> {
    if (bos) yield { ids: this.#bosId(), bytes: 0 };
    yield* encodePieces(readText(file), this.#stream());
  }

  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    const decoder = this.decoder({ start: true, ...options });
    let text = '';
    for (let i = 0; i < ids.length; i++) text += decoder.push(ids[i] as number);
    return text + decoder.end();
  }

  decoder(options: DecodeOptions = {}): TextDecoderOfTokens {
    const kept = new Set(options.keep?.map((text) => this.#native.tokenToId(text)));
    const left = (id: number) => this.#special.has(id) && !kept.has(id);
    return new TextDecoderOfTokens(this.#tokens, left, options);
  }

  bytes(id: number): Uint8Array {
    return this.#tokens.bytes[id] ?? new Uint8Array(0);
  }

  async #encode(text: string): Promise<number[]> {
    const encoding = await this.#native.encode(text, null, { addSpecialTokens: false });
    const ids = encoding.getIds();
    if (this.#tokens.bytes.length > this.vocabulary.size) this.#checkRange(ids);
    return ids;
  }

  /** A tokenizer may define more ids than the model has embeddings. */
  #checkRange(ids: readonly number[]): void {
    const { size } = this.vocabulary;
    const bad = ids.find((id) => id >= size);
    if (bad === undefined) return;
    throw new LockstepError(
      'LS_TOKEN_RANGE',
      `expected token ids below ${size}, got ${bad} (${this.#native.idToToken(bad)})`,
      { fix: 'Remove that token from the text, or resize the embeddings of the model.' },
    );
  }

  #bosId(): Int32Array {
    if (this.bos !== null) return Int32Array.of(this.bos);
    throw new LockstepError(
      'LS_TOKENIZER_BOS',
      'expected a beginning-of-sequence token, got none',
      {
        fix: 'Set `bos: false`, or name bos_token in tokenizer_config.json.',
        field: 'bos',
      },
    );
  }

  #stream(): StreamOptions {
    const { vocabulary } = this;
    this.#safe ??= cutCharacters(
      (function* () {
        for (let id = 0; id < vocabulary.size; id++) yield vocabulary.text(id);
      })(),
    );
    return { encode: (text) => this.#encode(text), safe: this.#safe, added: this.#added };
  }
}

function makeVocabulary(
  tokens: TokenBytes,
  special: ReadonlySet<number>,
  size: number,
): Vocabulary {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const texts = Array.from({ length: size }, (_, id) => decoder.decode(tokens.bytes[id]));
  const text = (id: number): string => texts[id] ?? '';
  return Object.freeze({
    size,
    text,
    special: (id: number) => special.has(id),
    select(test: (text: string, id: number) => boolean): number[] {
      const ids: number[] = [];
      for (let id = 0; id < size; id++) if (test(text(id), id)) ids.push(id);
      return ids;
    },
  });
}

function parse(raw: Buffer, file: string): { native: NativeTokenizer; json: TokenizerJson } {
  try {
    const json = JSON.parse(raw.toString('utf8')) as TokenizerJson;
    checkTokenizer(json, file);
    // Serialized again: native code could read the other value of a duplicate key.
    const native = NativeTokenizer.fromString(JSON.stringify(json));
    // A checkpoint may carry a training-time limit; texts are never shortened here.
    native.disableTruncation();
    native.disablePadding();
    return { native, json };
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    throw new LockstepError(
      'LS_TOKENIZER_MISSING',
      `expected a tokenizer in ${file}, got: ${cause instanceof Error ? cause.message : cause}`,
      { fix: 'Copy tokenizer.json again from the original checkpoint.', cause },
    );
  }
}

/** By tokenizer.json alone: transformers takes no `add_bos_token` of the settings where that file is. */
async function addsBos(native: NativeTokenizer, bos: number | null): Promise<boolean> {
  if (bos === null) return false;
  const encoding = await native.encode('a', null, { addSpecialTokens: true });
  return encoding.getIds()[0] === bos;
}

function asId(value: unknown): number | null {
  return typeof value === 'number' ? value : null;
}

function concatenate(pieces: Int32Array[]): Int32Array {
  if (pieces.length === 1) return pieces[0] as Int32Array;
  const all = new Int32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
