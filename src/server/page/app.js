// Brings the page up: the contract first, then everything that is drawn from it.
import { getJson, postJson, setKey } from './api.js';
import { makeChat } from './chat.js';
import { makeCut } from './cut.js';
import { byId, h, oncePerFrame } from './dom.js';
import { makeEngine } from './engine.js';
import { showFacts } from './facts.js';
import { makeMask } from './mask.js';
import { makeMemory } from './memory.js';
import { samples } from './samples.js';
import { Sequence } from './state.js';
import { lensesOf, makeStrip } from './strip.js';
import { makeText } from './text.js';

const LOST = ['LS_ENGINE_CRASHED', 'LS_ENGINE_CLOSED', 'LS_PYTHON_DIED', 'LS_PYTHON_CLOSED'];

const alerts = {
  /** @param before where the eye is: what the message is put in front of */
  show(error, before = null) {
    const close = h(
      'button',
      { type: 'button', class: 'quiet', onclick: () => alerts.clear() },
      'Dismiss',
    );
    const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : '';
    const lost = LOST.includes(error.code);
    if (lost) engineEnded();
    const words = lost
      ? 'The engine has stopped, and this server cannot answer any more. Start `lockstep serve` again and reload this page: the conversation is kept.'
      : `${error.message}${wait}`;
    const alert = byId('alert');
    if (before !== null) before.before(alert);
    else byId('main').prepend(alert);
    alert.title = lost ? error.message : '';
    alert.replaceChildren(h('span', {}, ...commands(words)), close);
    alert.hidden = false;
    alert.scrollIntoView({ block: 'nearest' });
  },
  clear() {
    byId('alert').hidden = true;
    byId('alert').replaceChildren();
  },
};

/** What stands between backquotes is a command. */
function commands(words) {
  return words.split('`').map((part, i) => (i % 2 === 1 ? h('code', {}, part) : part));
}

/** The chips say what is served; that is nothing now. */
function engineEnded() {
  if (byId('ended') !== null) return;
  byId('chips').querySelector('.warn, .good')?.remove();
  byId('chips').prepend(h('li', { class: 'chip bad', id: 'ended' }, 'engine stopped'));
}

function theme() {
  const root = document.documentElement;
  const saved = localStorage.getItem('lockstep.theme');
  if (saved !== null) root.dataset.theme = saved;
  byId('theme').addEventListener('click', () => {
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    const now = root.dataset.theme ?? (dark ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
    localStorage.setItem('lockstep.theme', root.dataset.theme);
  });
}

/** Tabs by the usual pattern: arrow keys move, the chosen one alone is in the tab order. */
function tabs(onChoose) {
  const all = [byId('tab-chat'), byId('tab-cut')];
  const choose = (chosen, focus) => {
    for (const tab of all) {
      const on = tab === chosen;
      tab.setAttribute('aria-selected', String(on));
      tab.tabIndex = on ? 0 : -1;
      byId(tab.getAttribute('aria-controls')).hidden = !on;
    }
    if (focus) chosen.focus();
    onChoose(chosen.id);
  };
  all.forEach((tab, i) => {
    tab.addEventListener('click', () => choose(tab, false));
    tab.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step !== undefined) choose(all[(i + step + all.length) % all.length], true);
    });
  });
}

async function contractOrKey() {
  for (;;) {
    try {
      return await getJson('lockstep/contract');
    } catch (error) {
      if (error.status !== 401) throw error;
      const dialog = byId('key-dialog');
      dialog.showModal();
      await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
      setKey(byId('key').value.trim());
    }
  }
}

async function start() {
  theme();
  const contract = await contractOrKey();
  document.title = `Lockstep: ${contract.name}`;
  showFacts(contract);
  makeEngine(contract);
  // Each tab looks at a sequence of its own; the instruments show the chosen one.
  const { lens } = lensesOf(contract)[0];
  const chat = new Sequence(contract, lens);
  const draft = new Sequence(contract, lens);
  const stage = { sequence: chat };
  const draws = [makeStrip(stage), makeMask(stage), makeMemory(stage)];
  const text = makeText(stage);
  const drawAll = oncePerFrame(() => {
    text.sync();
    for (const draw of draws) draw();
  });
  const drawLook = oncePerFrame(() => {
    text.light();
    draws[0]();
    draws[1]();
  });
  for (const sequence of [chat, draft]) {
    sequence.addEventListener('change', () => sequence === stage.sequence && drawAll());
    sequence.addEventListener('look', () => sequence === stage.sequence && drawLook());
  }
  new ResizeObserver(drawLook).observe(byId('strip'));
  const talk = makeChat(chat, contract, alerts);
  const cut = makeCut(draft, alerts);
  tabs((id) => {
    const next = id === 'tab-chat' ? chat : draft;
    next.lens = stage.sequence.lens;
    stage.sequence = next;
    if (id === 'tab-cut' && draft.length === 0) cut.cutNow();
    drawAll();
  });
  drawAll();
  // Something to look at before the first message; what the user does meanwhile comes first.
  // A token is at least one character of these texts, so this many characters are never too many tokens.
  const shown = samples.at(-1).text.slice(0, contract.limits.tokens - 1);
  const example = await postJson('lockstep/plan', { text: shown });
  if (chat.length === 0 && !talk.running()) chat.plan(example, 'An example, only cut: ');
}

start().catch((error) => {
  console.error(error);
  alerts.show(error);
});
