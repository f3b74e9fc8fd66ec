// Brings the page up: the models and the contract first, then everything that is drawn from it.
import { alerts } from './alerts.js';
import { aboutModel, getJson, setKey } from './api.js';
import { makeChoice } from './choice.js';
import { makeCut } from './cut.js';
import { byId, oncePerFrame } from './dom.js';
import { makeMask } from './mask.js';
import { makeMemory } from './memory.js';
import { listModels } from './models.js';
import { Sequence } from './state.js';
import { makeStrip } from './strip.js';
import { makeText } from './text.js';

/** Where this tab remembers its model. */
const CHOSEN = 'lockstep.model';

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

/** Ask for a key as long as the server wants another one. */
async function withKey(read) {
  for (;;) {
    try {
      return await read();
    } catch (error) {
      if (error.status !== 401) throw error;
      const dialog = byId('key-dialog');
      dialog.showModal();
      await new Promise((resolve) => dialog.addEventListener('close', resolve, { once: true }));
      setKey(byId('key').value.trim());
    }
  }
}

const contractOf = (name) => getJson(aboutModel('lockstep/contract', name));

async function start() {
  theme();
  const models = await withKey(listModels);
  const wished = sessionStorage.getItem(CHOSEN);
  const first = models.find(({ name }) => name === wished) ?? models[0];
  const contract = await contractOf(first.name);
  // Each tab looks at a sequence of its own; the instruments show the chosen one.
  const draft = new Sequence(contract);
  const stage = { sequence: draft };
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
  /** Draw it whenever it changes while it is looked at. */
  const watched = (sequence) => {
    sequence.addEventListener('change', () => sequence === stage.sequence && drawAll());
    sequence.addEventListener('look', () => sequence === stage.sequence && drawLook());
    return sequence;
  };
  const look = (sequence) => {
    sequence.setLens(stage.sequence.lens);
    stage.sequence = sequence;
    drawAll();
  };
  watched(draft);
  new ResizeObserver(drawLook).observe(byId('strip'));
  const cut = makeCut(draft, alerts);
  const cutting = () => byId('tab-cut').getAttribute('aria-selected') === 'true';
  const choice = makeChoice({
    models,
    watched,
    cutting,
    show(chat) {
      sessionStorage.setItem(CHOSEN, chat.contract.name);
      document.title = `Lockstep: ${chat.contract.name}`;
      if (draft.contract !== chat.contract) draft.reset(chat.contract);
      look(cutting() ? draft : chat.sequence);
      if (cutting()) cut.cutNow();
    },
  });
  choice.open(contract);
  tabs((id) => {
    look(id === 'tab-chat' ? choice.chat.sequence : draft);
    if (id === 'tab-cut' && draft.length === 0) cut.cutNow();
  });
}

start().catch((error) => {
  console.error(error);
  alerts.show(error);
});
