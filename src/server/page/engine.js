// What vLLM runs and holds now, asked every other second while the page is looked at.
import { aboutModel, getJson } from './api.js';
import { byId, h } from './dom.js';
import { bytes, number } from './model.js';

const EVERY_MS = 2000;

const WORDS = {
  local: 'local heads',
  long: 'long heads',
  pool: 'pool of the retrieving heads',
  queries: 'queries to retrieve with',
};

/** Shows the card for an engine that reports more than its name, until another model is shown. */
export function makeEngine() {
  const card = byId('engine');
  /** @type {{name: string} | null} */
  let turn = null;
  const look = async (mine) => {
    if (document.visibilityState === 'visible') {
      try {
        const told = await getJson(aboutModel('lockstep/engine', mine.name));
        if (turn !== mine) return;
        draw(told);
      } catch (error) {
        if (turn !== mine) return;
        // Only some keys may see what all clients do together.
        if (error.code === 'key_without_metrics') {
          card.hidden = true;
          return;
        }
        byId('engine-note').textContent = 'not answering';
      }
    }
    setTimeout(() => turn === mine && look(mine), EVERY_MS);
  };
  return {
    show({ name, engine }) {
      const next = engine.name === 'vllm' ? name : null;
      if (next === (turn?.name ?? null)) return;
      card.hidden = next === null;
      turn = next === null ? null : { name };
      if (turn !== null) look(turn);
    },
  };
}

/** A figure that the engine may not have told. */
const told = (value, write = number) => (value === null ? '\u2013' : write(value));

function draw({ replicas, kv, requests, segments, finished, prefixCache, preemptions }) {
  const ready = replicas.filter((one) => one.ready).length;
  byId('engine-note').textContent =
    `${ready} of ${replicas.length} ready, ${told(requests.running)} running, ${told(requests.waiting)} waiting`;
  const most = Math.max(kv.bytes ?? 0, kv.bytesFull ?? 0, 1);
  const bar = (label, value, role) => [
    h('div', { class: 'label' }, h('span', {}, label), h('b', {}, told(value, bytes))),
    h('div', { class: 'bar' }, sized(h('i', { class: role }), (value ?? 0) / most)),
  ];
  byId('engine-kv').replaceChildren(
    ...bar('Running requests hold', kv.bytes, 'role-own'),
    ...bar('Full attention would hold', kv.bytesFull, 'role-full'),
  );
  const rows = [
    ...kv.groups.map(({ group, blocks }) => [`KV blocks, ${WORDS[group] ?? group}`, told(blocks)]),
    ['Segments a request', finished ? (segments / finished).toFixed(1) : '\u2013'],
    [
      'Prefix cache',
      prefixCache.queries
        ? `${Math.round((100 * prefixCache.hits) / prefixCache.queries)} % of ${number(prefixCache.queries)} tokens`
        : '\u2013',
    ],
    ['Preemptions', told(preemptions)],
  ];
  byId('engine-facts').replaceChildren(
    ...rows.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]),
  );
}

function sized(element, share) {
  element.style.width = `${100 * share}%`;
  return element;
}
