// Chat: the conversation on the left, what its tokens make the model hold and see on the right.
import { ApiError, streamEvents } from './api.js';
import { byId, h } from './dom.js';
import { prompts } from './samples.js';

export function makeChat(sequence, contract, alerts) {
  const log = byId('log');
  const form = byId('composer');
  const input = byId('message');
  const send = byId('send');
  const status = byId('status');
  let messages = [];
  let running = null;

  function welcome() {
    const empty = h('div', { class: 'empty' });
    if (!contract.chat) {
      empty.append(
        h('p', {}, 'This model has no chat template. What you write is continued as text.'),
      );
    } else {
      empty.append(
        h('p', {}, 'Say something, or start with one of these and watch the right side.'),
      );
    }
    for (const prompt of prompts) {
      const button = h(
        'button',
        { type: 'button', class: 'sample' },
        h('b', {}, prompt.name),
        h('span', {}, prompt.note),
      );
      button.addEventListener('click', () => submit(prompt.text));
      empty.append(button);
    }
    log.replaceChildren(empty);
  }

  function request(text) {
    const most = Number(byId('most').value);
    const seed = byId('seed').value;
    const common = {
      model: contract.name,
      temperature: Number(byId('temperature').value),
      top_p: Number(byId('top-p').value),
      stream: true,
      stream_options: { include_usage: true },
      lockstep: { trace: true },
      ...(seed === '' ? {} : { seed: Number(seed) }),
      ...(most > 0 ? { max_tokens: most } : {}),
    };
    return contract.chat
      ? [
          'v1/chat/completions',
          { ...common, messages: [...messages, { role: 'user', content: text }] },
        ]
      : ['v1/completions', { ...common, prompt: text }];
  }

  async function submit(raw) {
    const text = raw.toWellFormed();
    if (running !== null || text.trim() === '') return;
    alerts.clear();
    log.querySelector('.empty')?.remove();
    const asked = h('div', { class: 'bubble user' }, text);
    const answer = h('div', { class: 'bubble assistant' });
    log.append(asked, answer);
    log.scrollTop = log.scrollHeight;
    input.value = '';
    const mine = new AbortController();
    running = mine;
    busy(true);
    sequence.reset();
    const [path, body] = request(text);
    const began = performance.now();
    let first = null;
    let reply = '';
    let usage = null;
    let finish = null;
    try {
      for await (const event of streamEvents(path, body, mine.signal)) {
        const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        const choice = event.choices[0];
        if (event.lockstep) {
          sequence.trace(event.lockstep);
          if (event.lockstep.cut !== null && reply !== '') {
            answer.append(
              h('span', { class: 'cut', title: `Cut after token ${event.lockstep.cut - 1}` }),
            );
          }
          if (first === null) status.textContent = `Reading: ${sequence.length} tokens`;
        }
        const piece = choice?.delta?.content ?? choice?.text ?? '';
        if (piece !== '') {
          first ??= performance.now();
          reply += piece;
          // The template's own line break or a leading space belongs to no one's eyes.
          answer.append(answer.textContent === '' ? piece.trimStart() : piece);
          status.textContent = 'Writing…';
        }
        finish = choice?.finish_reason ?? finish;
        usage = event.usage ?? usage;
        if (following) log.scrollTop = log.scrollHeight;
      }
      if (reply === '') answer.append('(an empty answer)');
      log.append(h('p', { class: 'meta' }, summary(usage, finish, began, first)));
      remember(text, reply);
    } catch (error) {
      if (error.name === 'AbortError') {
        log.append(h('p', { class: 'meta' }, 'Stopped.'));
        if (reply === '') answer.remove();
        else remember(text, reply);
      } else {
        alerts.show(
          error instanceof ApiError ? error : new ApiError('The page failed; reload it.'),
        );
        if (!(error instanceof ApiError)) console.error(error);
        if (reply === '') {
          answer.remove();
          asked.remove();
          input.value = text;
          if (log.childElementCount === 0) welcome();
        } else {
          log.append(h('p', { class: 'meta' }, 'Broken off.'));
        }
      }
    } finally {
      running = null;
      busy(false);
      log.scrollTop = log.scrollHeight;
    }
  }

  function remember(text, reply) {
    if (!contract.chat) return;
    messages.push({ role: 'user', content: text }, { role: 'assistant', content: reply });
  }

  function busy(on) {
    send.textContent = on ? 'Stop' : 'Send';
    send.classList.toggle('stop', on);
    log.setAttribute('aria-busy', String(on));
    if (on) status.textContent = 'Waiting for a place…';
    else status.textContent = '';
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (running !== null) running.abort();
    else submit(input.value);
  });
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (running === null) submit(input.value);
  });
  byId('clear').addEventListener('click', () => {
    running?.abort();
    messages = [];
    sequence.reset();
    alerts.clear();
    welcome();
    input.focus();
  });
  byId('most').max = String(contract.limits.tokens);
  welcome();
  return { running: () => running !== null };
}

function summary(usage, finish, began, first) {
  const words = [];
  if (usage !== null) {
    words.push(`${usage.prompt_tokens} read, ${usage.completion_tokens} written`);
    if (first !== null) {
      const seconds = (performance.now() - first) / 1000;
      if (usage.completion_tokens > 1 && seconds > 0.05) {
        words.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} tokens/s`);
      }
      words.push(`first token after ${((first - began) / 1000).toFixed(1)} s`);
    }
  }
  if (finish === 'length') words.push('ended at the token limit');
  return words.join(' · ');
}
