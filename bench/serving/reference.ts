// What a checkpoint answers, computed by the trainer's operator in PyTorch: no server, no onnx, no vLLM.
import {
  generate,
  loadTokenizer,
  openTorchEngine,
  readContract,
  Segmenter,
  Sequence,
} from '../../src/index.ts';

/** @returns the text of an answer of at most `most` tokens to a prompt, taken greedily */
export async function referenceOf(
  dir: string,
  prompts: readonly string[],
  lengths: readonly number[],
): Promise<(prompt: string, most: number) => string> {
  const known = new Map<string, string>();
  const contract = await readContract(dir);
  const tokenizer = await loadTokenizer(dir);
  const engine = await openTorchEngine(dir, { threads: 1 });
  try {
    for (const text of prompts) {
      for (const maxTokens of lengths) {
        const sequence = new Sequence(await engine.open(), new Segmenter(contract));
        const prompt = await tokenizer.encode(text);
        const request = { prompt, maxTokens, temperature: 0, stopIds: tokenizer.ends };
        let answer = '';
        for await (const event of generate(sequence, request, tokenizer.decoder())) {
          if (event.type !== 'ran') answer += event.text;
        }
        await sequence.close();
        known.set(`${maxTokens} ${text}`, answer);
      }
    }
  } finally {
    await engine.close();
  }
  return (prompt, most) => {
    const answer = known.get(`${most} ${prompt}`);
    if (answer === undefined) throw new Error(`expected a known prompt, got ${prompt}`);
    return answer;
  };
}
