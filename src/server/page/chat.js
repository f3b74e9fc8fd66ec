// The conversation with one model, and what its tokens make that model hold and see.
import { ApiError, streamEvents } from './api.js';
import { append, cutMark, makeBubble, makeReachable, paint } from './bubble.js';
import { h } from './dom.js';
import { forget, keep, kept } from './keep.js';
import { makeReads } from './reads.js';
import { requestOf } from './request.js';
import { prompts } from './samples.js';

/**
 * An entry of the conversation: `sent` ones are part of the next request; `slots` of an answer are the
 * entries that its request's messages were.
 * @typedef {import('./bubble.js').Entry & {sent: boolean, meta?: string, slots?: number[], sources?: object[] | null}} Turn
 */

/**
 * What the composer sees of a chat.
 * @typedef {object} Chat
 * @property {object} contract  of its model
 * @property {HTMLElement} log
 * @property {string} draft  what is written and not yet sent
 * @property {string} system  the system message for the next turn
 * @property {string} status
 * @property {boolean} running
 */

const EMPTY = '(an empty answer)';

/**
 * @param {import('./state.js').Sequence} sequence what is drawn of its last answer
 * @param {{changed: (chat: Chat) => void, failed: (error: ApiError, chat: Chat) => void, sent: () => void}} tell
 */
export function makeChat(sequence, tell) {
  let { contract } = sequence;
  const log = h('div', { class: 'log', role: 'log', 'aria-label': 'Conversation' });
  /** @type {Turn[]} */
  let entries = [];
  const bubbles = new Map();
  let reads = [];
  let running = null;
  /** Functions to call when the running turn has ended. */
  const waiting = [];
  /** @type {{asked: Turn, answer: Turn} | null} the turn that is running */
  let unfinished = null;

  function welcome() {
    const words = contract.chat
      ? 'Type a message, or try an example.'
      : 'This model has no chat template. What you write is continued as text.';
    const empty = h('div', { class: 'empty' }, h('p', {}, words));
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

  function add(entry) {
    const bubble = makeBubble(entry);
    bubbles.set(entry, bubble);
    entries.push(entry);
    log.append(bubble);
    if (entry.text !== '') paint(bubble, entry);
    else if (entry.meta !== undefined) bubble.textContent = EMPTY;
    return bubble;
  }

  function remove(entry) {
    bubbles.get(entry)?.remove();
    bubbles.delete(entry);
    entries = entries.filter((one) => one !== entry);
  }

  /** The system's message comes first and may be changed between two turns. */
  function settle() {
    const text = contract.chat ? chat.system.toWellFormed().trim() : '';
    const first = entries[0]?.role === 'system' ? entries[0] : null;
    if (first !== null && first.text === text) return;
    // What earlier answers read of the old one can no longer be shown in it.
    if (first !== null) remove(first);
    if (text === '') return;
    const entry = { role: 'system', text, sent: true };
    const bubble = makeBubble(entry);
    bubbles.set(entry, bubble);
    entries.unshift(entry);
    log.prepend(bubble);
    paint(bubble, entry);
  }

  async function submit(raw) {
    const text = raw.toWellFormed();
    if (running !== null || text.trim() === '') return;
    tell.sent();
    for (const one of reads) one.unmark?.();
    log.querySelector('.empty')?.remove();
    settle();
    const asked = { role: 'user', text, sent: false };
    add(asked);
    const messages = contract.chat ? [...entries.filter(({ sent }) => sent), asked] : [asked];
    const answer = { role: 'assistant', text: '', cuts: [], sent: false, slots: messages };
    const bubble = add(answer);
    scrollDown();
    chat.draft = '';
    const mine = new AbortController();
    running = mine;
    unfinished = { asked, answer };
    busy(true);
    sequence.reset(contract);
    const began = performance.now();
    const seen = { first: null, usage: null, finish: null };
    try {
      for await (const event of streamEvents(...requestOf(contract, messages), mine.signal)) {
        const following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        take(event, answer, bubble, seen);
        if (following) log.scrollTop = log.scrollHeight;
      }
      answer.sources ??= [];
      finish(answer, summary(seen.usage, seen.finish, began, seen.first));
      asked.sent = answer.sent = contract.chat;
    } catch (error) {
      if (!bubbles.has(answer)) {
        // Cleared meanwhile.
      } else if (error.name === 'AbortError') {
        if (answer.text === '') {
          remove(answer);
          asked.meta = 'Stopped.';
          log.append(h('p', { class: 'meta' }, asked.meta));
        } else {
          finish(answer, 'Stopped.');
          asked.sent = answer.sent = contract.chat;
        }
      } else {
        fail(error, asked, answer);
      }
    } finally {
      running = null;
      unfinished = null;
      busy(false);
      scrollDown();
      if (entries.length > 0) save();
      for (const resolve of waiting.splice(0)) resolve();
    }
  }

  /** One event of the stream. */
  function take(event, answer, bubble, seen) {
    const choice = event.choices[0];
    if (event.lockstep?.tokens) {
      sequence.trace(event.lockstep);
      if (event.lockstep.cut !== null && answer.text !== '') {
        answer.cuts.push(answer.text.length);
        bubble.append(cutMark());
      }
      if (seen.first === null) say(`Reading: ${sequence.length} tokens`);
    }
    const { sources } = event.lockstep ?? {};
    if (sources === null) answer.sources = null;
    for (const source of sources ?? []) {
      answer.sources ??= [];
      answer.sources.push({ ...source, part: answer.text.length });
    }
    const piece = choice?.delta?.content ?? choice?.text ?? '';
    if (piece !== '') {
      seen.first ??= performance.now();
      answer.text += piece;
      append(bubble, piece);
      say('Writing…');
    }
    seen.finish = choice?.finish_reason ?? seen.finish;
    seen.usage = event.usage ?? seen.usage;
  }

  /** The answer is complete: paint it again, and show what it read from. */
  function finish(answer, words) {
    answer.meta = words;
    paint(bubbles.get(answer), answer);
    if (answer.text === '') bubbles.get(answer).textContent = EMPTY;
    showEnd(answer);
  }

  function showEnd(answer) {
    if (answer.meta) log.append(h('p', { class: 'meta' }, answer.meta));
    if (answer.sources === undefined || answer.slots === undefined) return;
    const found = makeReads(
      answer,
      (span) => placeOf(span, answer),
      (entry) => bubbles.get(entry),
    );
    if (found === null) return;
    reads.push(found);
    // Two answers do not mark the same messages at once.
    for (const name of ['pointerenter', 'focusin']) {
      found.addEventListener(name, () => {
        for (const other of reads) if (other !== found) other.unmark?.();
      });
    }
    log.append(found);
  }

  /** Where a span stands among the entries; null where it does not, or the entry is gone. */
  function placeOf({ message, chars }, answer) {
    let entry = null;
    let from = 0;
    let to = 0;
    if (message !== null) {
      entry = message.index < answer.slots.length ? answer.slots[message.index] : answer;
      [from, to] = message.chars;
    } else if (!contract.chat) {
      const length = answer.slots[0]?.text.length ?? 0;
      entry = chars[0] < length ? answer.slots[0] : answer;
      const before = entry === answer ? length : 0;
      [from, to] = chars.map((at) => at - before);
    }
    if (entry === null || !bubbles.has(entry)) return null;
    to = Math.min(to, entry.text.length);
    return entry.text.slice(from, to).trim() === '' ? null : { entry, from, to };
  }

  function fail(error, asked, answer) {
    const known = error instanceof ApiError;
    tell.failed(known ? error : new ApiError('The page failed; reload it.'), chat);
    if (!known) console.error(error);
    if (answer.text !== '') {
      answer.sources = undefined;
      finish(answer, 'Interrupted.');
      return;
    }
    remove(answer);
    remove(asked);
    chat.draft = withDraft(asked);
    if (entries.every(({ role }) => role === 'system')) {
      entries = [];
      welcome();
    }
  }

  /** What a reload shows: an answer that is being written ends here; a question without one is a draft again. */
  function settled() {
    if (unfinished === null || !bubbles.has(unfinished.answer)) {
      return { list: entries, draft: chat.draft };
    }
    const { asked, answer } = unfinished;
    if (answer.text !== '') {
      const broken = { ...answer, meta: 'Interrupted.', sources: undefined };
      const list = entries.map((entry) => (entry === answer ? broken : entry));
      return { list, draft: chat.draft };
    }
    const list = entries.filter((entry) => entry !== asked && entry !== answer);
    const draft = withDraft(asked);
    return { list: list.every(({ role }) => role === 'system') ? [] : list, draft };
  }

  /** A question without an answer, before what was written since. */
  function withDraft(asked) {
    return chat.draft === '' ? asked.text : `${asked.text}\n${chat.draft}`;
  }

  function save() {
    const { list, draft } = settled();
    const number = new Map(list.map((entry, i) => [entry, i]));
    const plain = list.map((entry) => ({
      ...entry,
      slots: entry.slots?.map((slot) => number.get(slot) ?? -1),
    }));
    if (!keep(contract, { system: chat.system, draft, entries: plain })) {
      say('This conversation is too long to save. Reloading the page will lose it.');
    }
  }

  /** @returns {boolean} whether there was a conversation to go on with */
  function restore() {
    const saved = kept(contract);
    if (saved === null) return false;
    try {
      return showKept(saved);
    } catch (error) {
      // Of an older page, say: it is given up rather than shown in part.
      console.error(error);
      forget(contract);
      entries = [];
      bubbles.clear();
      log.replaceChildren();
      return false;
    }
  }

  function showKept({ system: first, draft, entries: list }) {
    chat.system = first;
    chat.draft = draft ?? '';
    for (const entry of list) {
      const at = entry.slots;
      add(entry);
      if (at === undefined) {
        if (entry.meta) log.append(h('p', { class: 'meta' }, entry.meta));
        continue;
      }
      entry.slots = at.map((i) => list[i] ?? null);
      showEnd(entry);
    }
    scrollDown();
    return list.length > 0;
  }

  function say(words) {
    chat.status = words;
    tell.changed(chat);
  }

  function busy(on) {
    log.setAttribute('aria-busy', String(on));
    say(on ? 'Queued…' : '');
  }

  function scrollDown() {
    log.scrollTop = log.scrollHeight;
  }

  const chat = {
    sequence,
    log,
    draft: '',
    system: '',
    status: '',
    get contract() {
      return contract;
    },
    get running() {
      return running !== null;
    },
    get empty() {
      return entries.length === 0;
    },
    submit,
    save,
    /** Its log is on the screen now. */
    shown() {
      for (const bubble of bubbles.values()) makeReachable(bubble);
      scrollDown();
    },
    stop: () => running?.abort(),
    /** Settles when no answer runs. */
    async ended() {
      if (running !== null) await new Promise((resolve) => waiting.push(resolve));
    },
    clear() {
      running?.abort();
      entries = [];
      bubbles.clear();
      reads = [];
      forget(contract);
      sequence.reset(contract);
      welcome();
    },
    /** The model was loaded again: the conversation goes on, the next answer runs under this contract. */
    renew(next) {
      contract = next;
      if (entries.length === 0) welcome();
    },
  };
  if (!restore()) welcome();
  addEventListener('pagehide', save);
  return chat;
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
