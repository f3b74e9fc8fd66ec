// What vLLM is doing while it starts, in words, out of what it logs.

const STEPS: readonly (readonly [RegExp, string])[] = [
  [/Initializing a V1 LLM engine/, 'vLLM: starting the engine process'],
  [/Starting to load model/, 'vLLM: loading the weights'],
  [/Loading weights took ([\d.]+) seconds/, 'vLLM: weights loaded in $1 s'],
  [/GPU KV cache size: ([\d,]+) tokens/, 'vLLM: room for $1 tokens of KV'],
  [/Warming up model/, 'vLLM: warming up'],
  [/Starting vLLM (?:API )?server/, 'vLLM: opening its port'],
];

/** A sentence for a line that tells of progress; null for every other line. */
export function progressOf(line: string): string | null {
  for (const [pattern, words] of STEPS) {
    const found = pattern.exec(line);
    if (found !== null) return words.replace('$1', found[1] ?? '');
  }
  return null;
}
