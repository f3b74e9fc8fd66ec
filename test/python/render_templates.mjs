// Renders chat templates as serving does: `{dir, templates, conversations, special}` as JSON in the file
// named first, answers in the one named second.
import { readFileSync, writeFileSync } from 'node:fs';
import { templateContext } from '../../dist/template/context.js';
import { startRendering } from '../../dist/template/python.js';
import { loadTokenizer } from '../../dist/tokenizer/tokenizer.js';

const [, , from, to] = process.argv;
const { dir, templates, conversations, special } = JSON.parse(readFileSync(from, 'utf8'));
const tokenizer = await loadTokenizer(dir);
const rendering = await startRendering(1 << 20);
const answers = {};
for (const [name, source] of Object.entries(templates)) {
  const ready = JSON.parse(rendering.load(source));
  for (const [conversation, body] of Object.entries(conversations)) {
    const { messages, tools, chat_template_kwargs: options } = JSON.parse(body);
    const context = templateContext({
      specialTokens: special,
      messages,
      addGenerationPrompt: true,
      tools: tools ?? null,
      options,
    });
    const answer =
      ready.kind === 'ready' ? JSON.parse(rendering.render(JSON.stringify(context), body)) : ready;
    if (answer.kind === 'text') answer.ids = [...(await tokenizer.encode(answer.text))];
    answers[`${name} ${conversation}`] = answer;
  }
}
writeFileSync(to, JSON.stringify(answers));
