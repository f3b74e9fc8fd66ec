// Which model is shown: the choice where the server has several, and the header's chips.
import { byId, h } from './dom.js';
import { number } from './model.js';

/** States of an engine, in this page's words. */
const STATES = { 'engine lost': 'engine stopped' };

export const stateWords = (status) => STATES[status] ?? status;

/** Short to look at; whole on hover, in the focus and in what is copied. */
function digestOf({ digest }) {
  const [shown, rest] = [digest.slice(0, 10), digest.slice(10)];
  return h('code', { class: 'digest', title: digest, tabindex: 0 }, shown, h('i', {}, rest));
}

/** @param {(name: string) => void} onChoose */
export function makeChips(onChoose) {
  const root = byId('chips');
  const select = byId('model');
  select.addEventListener('change', () => onChoose(select.value));
  let listed = '';
  let ended = false;

  /** @param {import('./models.js').Model[]} models those that can be chosen */
  function fillChoice(models, name) {
    const words = models.map(({ name: one, parent, engine, status }) => [
      one,
      `${one} · ${parent === null ? engine : `adapter of ${parent}`} · ${stateWords(status)}`,
    ]);
    if (JSON.stringify(words) !== listed) {
      listed = JSON.stringify(words);
      select.replaceChildren(
        ...words.map(([value, text]) => h('option', { value, dir: 'auto' }, text)),
      );
    }
    select.value = name;
    select.title = name;
  }

  function state({ trained }, status) {
    if (ended || status === 'engine lost') {
      return h('li', { class: 'chip bad', id: 'ended' }, stateWords('engine lost'));
    }
    if (status !== 'ready') return h('li', { class: 'chip warn' }, stateWords(status));
    return trained.steps === 0
      ? h('li', { class: 'chip warn' }, 'not trained under this contract')
      : h('li', { class: 'chip good' }, `trained: ${number(trained.steps)} steps`);
  }

  /** One model has no choice: its name is a chip. */
  function show(contract, models) {
    const { name, engine } = contract;
    const several = models.length > 1;
    byId('choice').hidden = !several;
    if (several) fillChoice(models, name);
    const status = models.find((one) => one.name === name)?.status ?? 'ready';
    const chips = [
      // Where there is a choice, it has the name; paper has no choice.
      h('li', { class: several ? 'chip on-paper' : 'chip' }, h('b', {}, name)),
      h('li', { class: 'chip' }, `${engine.name} ${engine.precision}`),
      h('li', { class: 'chip' }, 'digest ', digestOf(contract)),
    ];
    // What has stopped is said first.
    const said = state(contract, status);
    root.replaceChildren(...(said.id === 'ended' ? [said, ...chips] : [...chips, said]));
  }

  return {
    show,
    /** The engine of the model that is shown has stopped, which the server need not have told yet. */
    setEnded(on) {
      ended = on;
    },
  };
}
