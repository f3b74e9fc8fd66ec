// The bytes of every token id, from tokenizer.json: used by `vocabulary.text` and decoding.
import { LockstepError } from '../errors.ts';

/** The parts of tokenizer.json that say how ids become text. */
export interface TokenizerJson {
  model: {
    type: string;
    vocab: Record<string, number> | [string, number][];
    byte_fallback?: boolean;
  };
  decoder: DecoderJson | null;
  added_tokens?: {
    id: number;
    content: string;
    special: boolean;
    lstrip: boolean;
    rstrip: boolean;
  }[];
}

interface DecoderJson {
  type: string;
  decoders?: DecoderJson[];
  prepend_scheme?: string;
  add_prefix_space?: boolean;
  content?: string;
  start?: number;
}

export interface TokenBytes {
  /** Bytes of each id; an id that the tokenizer does not define has none. */
  readonly bytes: readonly Uint8Array[];
  /** Whether decoding a text from its start drops one leading space (SentencePiece's dummy prefix). */
  readonly dropsFirstSpace: boolean;
}

const utf8 = new TextEncoder();

/**
 * Bytes of every token of a byte-level BPE or of a SentencePiece-like (Metaspace, byte fallback) tokenizer.
 *
 * @param json parsed tokenizer.json
 * @param size number of ids wanted; at least the tokenizer's own
 * @throws LS_TOKENIZER_UNSUPPORTED for other families (WordPiece, CTC, ...)
 */
export function tokenBytes(json: TokenizerJson, size: number): TokenBytes {
  const decoders = flatten(json.decoder);
  const types = new Set(decoders.map((decoder) => decoder.type));
  const byteLevel = types.has('ByteLevel');
  const metaspace = types.has('Metaspace') || types.has('ByteFallback') || types.has('Replace');
  if (byteLevel === metaspace) {
    throw new LockstepError(
      'LS_TOKENIZER_UNSUPPORTED',
      `expected a tokenizer whose decoder is ByteLevel or Metaspace/ByteFallback, got ${
        decoders.map((decoder) => decoder.type).join(' + ') || 'none'
      }`,
      { fix: 'Use a Llama, Qwen or Mistral checkpoint with its own tokenizer.json.' },
    );
  }
  const bytes: Uint8Array[] = new Array(size).fill(new Uint8Array(0));
  const convert = byteLevel ? fromByteLevel : fromMetaspace;
  for (const [token, id] of vocabEntries(json)) bytes[id] = convert(token);
  for (const added of json.added_tokens ?? []) bytes[added.id] = utf8.encode(added.content);
  return { bytes, dropsFirstSpace: metaspace && dropsFirstSpace(decoders) };
}

/** Number of ids that tokenizer.json defines: its largest id + 1. */
export function tokenizerSize(json: TokenizerJson): number {
  let size = 0;
  for (const [, id] of vocabEntries(json)) size = Math.max(size, id + 1);
  for (const added of json.added_tokens ?? []) size = Math.max(size, added.id + 1);
  return size;
}

function vocabEntries(json: TokenizerJson): Iterable<[string, number]> {
  const { vocab } = json.model;
  // Unigram vocabularies are lists of [token, score]; the id is the place in the list.
  return Array.isArray(vocab)
    ? vocab.map(([token], id): [string, number] => [token, id])
    : Object.entries(vocab);
}

function flatten(decoder: DecoderJson | null): DecoderJson[] {
  if (decoder === null) return [];
  return decoder.type === 'Sequence' ? (decoder.decoders ?? []).flatMap(flatten) : [decoder];
}

function dropsFirstSpace(decoders: DecoderJson[]): boolean {
  return decoders.some(
    (decoder) =>
      (decoder.type === 'Strip' && decoder.content === ' ' && (decoder.start ?? 0) > 0) ||
      (decoder.type === 'Metaspace' &&
        decoder.prepend_scheme !== 'never' &&
        decoder.add_prefix_space !== false),
  );
}

function fromMetaspace(token: string): Uint8Array {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
  if (byte !== undefined) return Uint8Array.of(Number.parseInt(byte, 16));
  return utf8.encode(token.replaceAll('▁', ' '));
}

/** GPT-2's table: the 256 bytes stand as printable characters. */
const byteOf: ReadonlyMap<string, number> = (() => {
  const table = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return table;
})();

function fromByteLevel(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = byteOf.get(character);
    // As the `tokenizers` crate: a token outside the alphabet stands for its own characters.
    if (byte === undefined) return utf8.encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
