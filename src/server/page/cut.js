// Typing or pasting a text and seeing where the policy cuts it.
import { aboutModel, postJson } from './api.js';
import { byId, h } from './dom.js';
import { number } from './model.js';
import { samples } from './samples.js';

const PAUSE_MS = 180;

export function makeCut(sequence, alerts) {
  const text = byId('text');
  const status = byId('cut-status');
  let timer = 0;
  let running = null;

  for (const sample of samples) {
    const button = h('button', { type: 'button', class: 'sample' }, sample.name);
    button.addEventListener('click', () => {
      text.value = sample.text;
      text.scrollTop = 0;
      text.focus();
      cutNow();
    });
    byId('samples').append(button);
  }
  text.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(cutNow, PAUSE_MS);
  });

  async function cutNow() {
    clearTimeout(timer);
    running?.abort();
    const mine = new AbortController();
    running = mine;
    if (text.value === '') {
      sequence.reset();
      status.textContent = '';
      return;
    }
    status.textContent = 'Cutting…';
    try {
      // Half a surrogate pair, left by an edit in the middle of an emoji, has no UTF-8 form.
      const plan = await postJson(
        aboutModel('lockstep/plan', sequence.contract.name),
        { text: text.value.toWellFormed() },
        mine.signal,
      );
      if (running !== mine) return;
      alerts.clear();
      sequence.plan(plan);
      const closed = plan.segments.filter((segment) => segment.closed);
      const mean = closed.length === 0 ? 0 : plan.boundaries.at(-1) / closed.length;
      status.textContent =
        closed.length === 0
          ? `${number(plan.tokens.length)} tokens, no cut yet`
          : `${number(plan.tokens.length)} tokens in ${plan.segments.length} segments, ${number(mean)} on average`;
    } catch (error) {
      if (error.name === 'AbortError') return;
      status.textContent = '';
      alerts.show(error, text);
    }
  }

  return { cutNow };
}
