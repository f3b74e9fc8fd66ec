// Which model is talked to: one chat a model, the choice among them, and what the server changes meanwhile.
import { alerts } from './alerts.js';
import { aboutModel, getJson, postJson } from './api.js';
import { makeChat } from './chat.js';
import { makeChips } from './chips.js';
import { makeComposer } from './composer.js';
import { byId, h } from './dom.js';
import { makeEngine } from './engine.js';
import { showFacts } from './facts.js';
import { changesOf, watchModels } from './models.js';
import { samples } from './samples.js';
import { Sequence } from './state.js';

const LOST = ['LS_ENGINE_CRASHED', 'LS_ENGINE_CLOSED', 'LS_PYTHON_DIED', 'LS_PYTHON_CLOSED'];
const GONE = 'no longer served';

/**
 * @param {object} page
 * @param {import('./models.js').Model[]} page.models
 * @param {(sequence: Sequence) => Sequence} page.watched  a sequence that is drawn from now on
 * @param {() => boolean} page.cutting  whether a text is cut instead of a chat shown
 * @param {(chat: object) => void} page.show  draw what belongs to this chat's model
 */
export function makeChoice(page) {
  let { models } = page;
  let opening = 0;
  let chat = null;
  /** @type {Map<string, object>} by the name of their model */
  const chats = new Map();
  const engine = makeEngine();
  const composer = makeComposer(alerts);
  const chips = makeChips((name) => choose(name));
  const watch = watchModels(models, follow);
  const eye = () => byId(page.cutting() ? 'text' : 'composer');

  /** Those that are served, and those that were and have a conversation to be read. */
  function offered() {
    const served = new Set(models.map(({ name }) => name));
    const read = [...chats.values()].filter(
      (one) => !served.has(one.contract.name) && (one === chat || !one.empty),
    );
    const gone = read.map(({ contract: { name, engine: by } }) => ({
      name,
      parent: null,
      engine: `${by.name} ${by.precision}`,
      status: GONE,
    }));
    return [...models, ...gone];
  }

  const drawChips = () => chips.show(chat.contract, offered());

  async function choose(name) {
    const mine = ++opening;
    try {
      const served = models.some((one) => one.name === name);
      const contract = served
        ? await getJson(aboutModel('lockstep/contract', name))
        : chats.get(name).contract;
      if (mine === opening) open(contract);
    } catch (error) {
      if (mine !== opening) return;
      alerts.show(error, eye());
      drawChips();
      if (error.status === 404) watch.look();
    }
  }

  function open(contract) {
    const found = chats.get(contract.name);
    if (found === undefined) chats.set(contract.name, makeChat(newSequence(contract), tell));
    else found.renew(contract);
    const next = chats.get(contract.name);
    if (chat !== null && chat !== next) alerts.clear();
    chat = next;
    chips.setEnded(false);
    showFacts(contract);
    engine.show(contract);
    composer.show(chat);
    drawChips();
    page.show(chat);
    const { sequence } = chat;
    const drawn = sequence.length > 0 && sequence.contract.digest === contract.digest;
    if (chat.empty && !drawn) example(chat);
  }

  const newSequence = (contract) => page.watched(new Sequence(contract));

  /** Something to look at before the first message; what the user does meanwhile comes first. */
  async function example({ contract, sequence }) {
    // A token is at least one character of these texts, so this many characters are never too many tokens.
    const shown = samples.at(-1).text.slice(0, contract.limits.tokens - 1);
    const path = aboutModel('lockstep/plan', contract.name);
    const plan = await postJson(path, { text: shown }).catch((error) => alerts.show(error, eye()));
    const { running, empty } = chats.get(contract.name);
    if (plan === undefined || running || !empty) return;
    sequence.reset(contract);
    sequence.plan(plan, 'Example, segmented but not run: ');
  }

  const tell = {
    changed: (one) => composer.draw(one),
    sent: () => alerts.clear(),
    failed(error, one) {
      const { name } = one.contract;
      if (LOST.includes(error.code)) {
        error.instead = stopped(name);
        if (one === chat) {
          chips.setEnded(true);
          drawChips();
        }
        watch.look();
      } else if (one !== chat) {
        error.instead = `\`${name}\`: ${error.message}`;
      }
      alerts.show(error, eye());
      if (error.code === 'model_not_found') watch.look();
    },
  };

  const stopped = (name) =>
    models.length === 1
      ? 'The engine has stopped, and this server cannot answer any more. Start `lockstep serve` again and reload this page: the conversation is kept.'
      : `The engine has stopped: \`${name}\` cannot answer any more. Choose another model, or send SIGHUP to \`lockstep serve\`, which loads it again. The conversation is kept.`;

  /** What has become of the models: the choice follows, and what has changed is said. */
  async function follow(now, before) {
    models = now;
    const { name } = chat.contract;
    const { removed, added, loaded, other } = changesOf(before, now);
    const said = [
      ...added.map((one) => `The server now serves \`${one}\`.`),
      ...removed.map((one) => `The server no longer serves \`${one}\`.`),
      ...loaded.map((one) => `The server has loaded \`${one}\` again.`),
      ...other.map((one) => `The server has loaded \`${one}\` again, with another contract.`),
    ];
    if (removed.includes(name)) return leave(name, said);
    if ([...added, ...loaded, ...other].includes(name)) {
      await choose(name);
      if (other.includes(name) && !chat.empty) said.push('The next answer runs under it.');
    }
    drawChips();
    if (said.length > 0) alerts.tell(said.join(' '), eye());
  }

  /** The chosen model is gone: another takes its place once its last answer has ended. */
  async function leave(name, said) {
    const gone = chats.get(name);
    if (gone.running) {
      drawChips();
      alerts.tell(`${said.join(' ')} This answer is its last.`, eye());
      await gone.ended();
      // It may have come back meanwhile, which was said then.
      if (models.some((one) => one.name === name)) return;
    }
    if (chat === gone) {
      await choose(models[0].name);
      // Where that failed, its message stays.
      if (chat === gone) return;
      said.push(`\`${chat.contract.name}\` is chosen now.`);
    }
    const action = gone.empty
      ? []
      : [
          h(
            'button',
            { type: 'button', class: 'quiet', onclick: () => back(name) },
            'Back to the conversation',
          ),
        ];
    alerts.tell(said.join(' '), eye(), ...action);
  }

  /** The button that was pressed goes with its message. */
  async function back(name) {
    await choose(name);
    byId('message').focus();
  }

  return {
    open,
    get chat() {
      return chat;
    },
  };
}
