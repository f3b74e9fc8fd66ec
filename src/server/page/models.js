// The models that the server serves, and what becomes of them while the page is open.
import { getJson, getReady } from './api.js';

const EVERY_MS = 4000;

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string | null} parent  of an adapter: the model that it runs over
 * @property {string} engine  with its precision
 * @property {string} digest
 * @property {number} created  when the server loaded it
 * @property {string} status  `ready`, or why it is not
 */

/** @returns {Promise<Model[]>} */
export async function listModels() {
  const [{ data }, states] = await Promise.all([getJson('v1/models'), readStates()]);
  const models = data.map(({ id, parent = null, created, lockstep }) => ({
    name: id,
    parent,
    engine: `${lockstep.engine} ${lockstep.precision}`,
    digest: lockstep.digest,
    created,
    status: 'ready',
  }));
  return withStates(models, states ?? []);
}

/** What the server tells without a key; null where it tells nothing now. */
async function readStates() {
  try {
    return (await getReady()).models ?? null;
  } catch {
    // The next message that is sent shows the error.
    return null;
  }
}

/** An adapter runs in the engine of its parent. */
function withStates(models, states) {
  const status = new Map(states.map((one) => [one.model, one.status]));
  return models.map((one) => ({
    ...one,
    status: status.get(one.parent ?? one.name) ?? one.status,
  }));
}

const marks = (list) =>
  JSON.stringify(list.map(({ name, created, digest }) => [name, created, digest]));

/**
 * Look every few seconds, while the page is looked at.
 *
 * @param {Model[]} first
 * @param {(models: Model[], before: Model[]) => void} changed
 * @returns {{look: () => Promise<void>}} looks at once
 */
export function watchModels(first, changed) {
  let models = first;
  let turn = Promise.resolve();
  async function once() {
    const states = await readStates();
    if (states === null) return;
    const own = models.filter(({ parent }) => parent === null);
    const same = marks(own) === marks(states.map((one) => ({ ...one, name: one.model })));
    // The list counts as a request, and may be refused; then it is read the next time.
    const now = same ? withStates(models, states) : await listModels().catch(() => null);
    if (now === null || JSON.stringify(now) === JSON.stringify(models)) return;
    const before = models;
    models = now;
    changed(now, before);
  }
  const look = () => {
    turn = turn.then(once);
    return turn;
  };
  setInterval(() => document.visibilityState === 'visible' && look(), EVERY_MS);
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') look();
  });
  return { look };
}

/**
 * What happened to the models, in sentences; names stand between backquotes.
 *
 * @param {Model[]} before
 * @param {Model[]} now
 * @returns {{removed: string[], added: string[], loaded: string[], other: string[]}} names; `other`: loaded
 *   again with another contract
 */
export function changesOf(before, now) {
  const old = new Map(before.map((one) => [one.name, one]));
  const left = new Set(now.map(({ name }) => name));
  const again = now.filter(({ name, created, digest }) => {
    const one = old.get(name);
    return one !== undefined && (one.created !== created || one.digest !== digest);
  });
  const isOther = ({ name, digest }) => old.get(name).digest !== digest;
  return {
    removed: before.filter(({ name }) => !left.has(name)).map(({ name }) => name),
    added: now.filter(({ name }) => !old.has(name)).map(({ name }) => name),
    loaded: again.filter((one) => !isOther(one)).map(({ name }) => name),
    other: again.filter(isOther).map(({ name }) => name),
  };
}
