// What OpenAI's JavaScript client does in a tool loop and in a replayed conversation. The Python client does
// the same in test/python/client_steps.py; what both say is in conversation.json.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import OpenAI from 'openai';
import type { Any } from '../server-client.ts';

export const conversation = JSON.parse(
  readFileSync(path.join(import.meta.dirname, 'conversation.json'), 'utf8'),
);

/** A request and its answer. */
export interface Exchange {
  /** Which steps it belongs to: `loop required whole`, `replay`, `responses streamed`, ... */
  flow: string;
  path: '/v1/chat/completions' | '/v1/responses';
  /** The JSON body, as it went over the wire. */
  body: Any;
  /** The answer's message, as the client shows it; a response's output items. */
  message: Any;
  finish: string;
  promptTokens: number;
  /** Those of them that need not run; -1 where the usage does not say. */
  cachedTokens: number;
}

/** All steps, one after the other. */
export async function javascriptSteps(url: string): Promise<Exchange[]> {
  const session = new Session(url);
  for (const choice of Object.keys(conversation.choices)) {
    for (const streamed of [false, true]) await toolLoop(session, choice, streamed);
  }
  await replay(session);
  for (const streamed of [false, true]) await responsesLoop(session, streamed);
  return session.exchanges;
}

class Session {
  readonly exchanges: Exchange[] = [];
  readonly #client: OpenAI;
  #sent = '';

  constructor(url: string) {
    this.#client = new OpenAI({
      baseURL: `${url}/v1`,
      apiKey: 'none',
      maxRetries: 0,
      fetch: (target, init) => {
        this.#sent = String(init?.body);
        return fetch(target, init);
      },
    });
  }

  /** The answer's message, as the client hands it over. */
  async ask(flow: string, streamed: boolean, given: Any): Promise<Any> {
    const ask = { model: 'tiny', temperature: 0, max_tokens: 400, ...given };
    const { completions } = this.#client.chat;
    const answer: OpenAI.ChatCompletion = streamed
      ? await completions
          .stream({ ...ask, stream_options: { include_usage: true } })
          .finalChatCompletion()
      : await completions.create(ask);
    const choice = answer.choices[0] as OpenAI.ChatCompletion.Choice;
    this.exchanges.push({
      flow,
      path: '/v1/chat/completions',
      body: JSON.parse(this.#sent),
      message: JSON.parse(JSON.stringify(choice.message)),
      finish: choice.finish_reason,
      promptTokens: answer.usage?.prompt_tokens ?? -1,
      cachedTokens: answer.usage?.prompt_tokens_details?.cached_tokens ?? -1,
    });
    return choice.message;
  }

  /** A response's output items, as the client hands them over. */
  async respond(flow: string, streamed: boolean, given: Any): Promise<Any[]> {
    const ask = { model: 'tiny', temperature: 0, max_output_tokens: 400, ...given };
    const { responses } = this.#client;
    const answer: OpenAI.Responses.Response = streamed
      ? await responses.stream(ask).finalResponse()
      : await responses.create(ask);
    this.exchanges.push({
      flow,
      path: '/v1/responses',
      body: JSON.parse(this.#sent),
      message: JSON.parse(JSON.stringify(answer.output)),
      finish: String(answer.status),
      promptTokens: answer.usage?.input_tokens ?? -1,
      cachedTokens: answer.usage?.input_tokens_details?.cached_tokens ?? -1,
    });
    return answer.output;
  }
}

/**
 * Two calls that have to come, each with its result, and what the model says of them. The texts end by
 * themselves (`short`): a client that streams takes none that was cut off.
 */
async function toolLoop(session: Session, choice: string, streamed: boolean): Promise<void> {
  const flow = `loop ${choice} ${streamed ? 'streamed' : 'whole'}`;
  const { system, question, again, tools, results, choices } = conversation;
  const messages: Any[] = [{ role: 'developer', content: system }];
  for (const content of [question, again]) {
    messages.push({ role: 'user', content });
    const called = await session.ask(flow, streamed, {
      messages,
      tools,
      tool_choice: choices[choice],
      parallel_tool_calls: false,
    });
    messages.push(called);
    for (const call of called.tool_calls ?? []) {
      const text = results[call.function.name];
      const parts = [{ type: 'text', text }];
      messages.push({ role: 'tool', tool_call_id: call.id, content: streamed ? parts : text });
    }
    messages.push(await session.ask(flow, streamed, { messages, tools, ...conversation.short }));
  }
}

/** Each answer goes back into the conversation, whole and streamed ones in turn. */
async function replay(session: Session): Promise<void> {
  const messages: Any[] = [{ role: 'system', content: conversation.system }];
  for (const [i, turn] of conversation.turns.entries()) {
    messages.push(turn);
    const streamed = i % 2 === 1;
    const lengths = streamed ? conversation.short : { max_tokens: 32 };
    messages.push(await session.ask('replay', streamed, { messages, ...lengths }));
  }
}

/** The loop through `/v1/responses`: its items go back. A form lets the texts end. */
async function responsesLoop(session: Session, streamed: boolean): Promise<void> {
  const flow = `responses ${streamed ? 'streamed' : 'whole'}`;
  const { system: instructions, question, again, results } = conversation;
  const tools = conversation.tools.map(({ function: own }: Any) => ({
    type: 'function',
    strict: false,
    ...own,
  }));
  const input: Any[] = [];
  for (const content of [question, again]) {
    input.push({ role: 'user', content });
    const ask = { instructions, input, tools };
    const demanded = { tool_choice: 'required', parallel_tool_calls: false };
    const called = await session.respond(flow, streamed, { ...ask, ...demanded });
    input.push(...called);
    for (const { type, call_id, name } of called) {
      if (type !== 'function_call') continue;
      input.push({ type: 'function_call_output', call_id, output: results[name] });
    }
    const text = { format: conversation.form };
    input.push(...(await session.respond(flow, streamed, { ...ask, text })));
  }
}
