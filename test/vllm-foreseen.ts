// What the fake vLLM (test/python/faults/fake_vllm.py) writes.

/** What the fake generates after a prompt. */
export function foreseen(prompt: string, count: number): string {
  let last = prompt.charCodeAt(prompt.length - 1);
  let text = '';
  for (let position = prompt.length; text.length < count; position++) {
    const letter = (last * 7 + position * 3) % 27;
    last = position % 11 === 0 ? 46 : letter === 26 ? 32 : 97 + letter;
    text += String.fromCharCode(last);
  }
  return text;
}
