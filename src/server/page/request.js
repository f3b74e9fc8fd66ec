// What the next answer is asked for with: the conversation, and what the settings say.
import { byId } from './dom.js';

/**
 * @param {{role: string, text: string}[]} messages  of a model without a chat template the last one alone
 * @returns {[path: string, body: object]}
 */
export function requestOf(contract, messages) {
  const most = Number(byId('most').value);
  const seed = byId('seed').value;
  const common = {
    model: contract.name,
    temperature: Number(byId('temperature').value),
    top_p: Number(byId('top-p').value),
    stream: true,
    stream_options: { include_usage: true },
    lockstep: { trace: true, sources: true },
    ...(seed === '' ? {} : { seed: Number(seed) }),
    ...(most > 0 ? { max_tokens: most } : {}),
  };
  if (!contract.chat) return ['v1/completions', { ...common, prompt: messages.at(-1).text }];
  const sent = messages.map(({ role, text }) => ({ role, content: text }));
  return ['v1/chat/completions', { ...common, messages: sent }];
}
