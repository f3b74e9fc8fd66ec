// Cuts of a stream of ids, by the planner of this process or by Python's.
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { finished } from 'node:stream/promises';
import { runJob } from '../../bridge/index.ts';
import { type ContractFiles, writeContractFiles } from '../../checkpoint/index.ts';
import { Segmenter } from '../../planner/index.ts';
import type { TokenPiece } from '../../tokenizer/stream.ts';

/** Ids of a stretch of the text, the cuts among them, and the bytes of the text read so far. */
export interface CutPiece extends TokenPiece {
  cuts: readonly number[];
}

export type CutStream = AsyncGenerator<CutPiece>;

/** Plan in this process, as the ids come. */
export async function* nodeCuts(
  pieces: AsyncIterable<TokenPiece>,
  files: ContractFiles,
): CutStream {
  const segmenter = new Segmenter(files);
  try {
    for await (const piece of pieces) yield { ...piece, cuts: segmenter.pushMany(piece.ids) };
  } finally {
    segmenter.close();
  }
}

export interface PythonCutsOptions {
  /** The tokenizer.json that the contract names. */
  tokenizerFile: string;
  python?: string | undefined;
  signal: AbortSignal;
  /** Called with the progress: bytes of the text, half of them for tokenizing, half for planning. */
  onProgress: (bytes: number, note: string) => void;
}

/** Ids a piece, where they are read again. */
const pieceLength = 1 << 16;

/**
 * Plan in a Python process. The ids cross in a temporary file (4 bytes each), the cuts come back in
 * another; neither side holds the whole of them.
 */
export async function* pythonCuts(
  pieces: AsyncIterable<TokenPiece>,
  files: ContractFiles,
  options: PythonCutsOptions,
): CutStream {
  const folder = await mkdtemp(path.join(tmpdir(), 'lockstep-plan-'));
  try {
    await writeContractFiles(folder, files);
    const ids = path.join(folder, 'ids.i32');
    const cuts = path.join(folder, 'cuts.i32');
    const { bytes, tokens } = await writeIds(ids, pieces, options);
    await runJob({
      module: 'lockstep.contract.plan_job',
      job: { contract: folder, tokenizer: options.tokenizerFile, ids, cuts },
      python: options.python,
      signal: options.signal,
      onEvent: ({ event, tokens: planned }) => {
        if (event !== 'progress') return;
        const share = (planned as number) / Math.max(1, tokens);
        options.onProgress(bytes * (0.5 + share / 2), 'planning in Python');
      },
    });
    yield* joined(ids, cuts, bytes);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function writeIds(
  file: string,
  pieces: AsyncIterable<TokenPiece>,
  { signal, onProgress }: PythonCutsOptions,
): Promise<{ bytes: number; tokens: number }> {
  const stream = createWriteStream(file);
  let bytes = 0;
  let tokens = 0;
  for await (const piece of pieces) {
    signal.throwIfAborted();
    bytes = piece.bytes;
    tokens += piece.ids.length;
    onProgress(bytes / 2, 'tokenizing');
    const { buffer, byteOffset, byteLength } = piece.ids;
    if (!stream.write(Buffer.from(buffer, byteOffset, byteLength))) {
      await once(stream, 'drain');
    }
  }
  stream.end();
  await finished(stream);
  return { bytes, tokens };
}

/** Ids and cuts side by side: each piece with the cuts that fall into it. */
async function* joined(ids: string, cuts: string, bytes: number): CutStream {
  const cutReader = integers(cuts);
  let cut = await cutReader.next();
  let position = 0;
  for await (const piece of chunks(ids)) {
    position += piece.length;
    const own: number[] = [];
    while (!cut.done && cut.value <= position) {
      own.push(cut.value);
      cut = await cutReader.next();
    }
    yield { ids: piece, cuts: own, bytes };
  }
}

async function* integers(file: string): AsyncGenerator<number> {
  for await (const piece of chunks(file)) yield* piece;
}

/** A file of little-endian 32-bit integers in pieces. */
async function* chunks(file: string): AsyncGenerator<Int32Array> {
  for await (const data of createReadStream(file, { highWaterMark: 4 * pieceLength })) {
    // A copy: the stream's buffers are pooled and need not be aligned.
    yield new Int32Array(Uint8Array.from(data as Buffer).buffer);
  }
}
