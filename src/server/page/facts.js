// The contract in words and as a map of heads.
import { byId, h, svg } from './dom.js';
import { headGroups, number } from './model.js';

const ROLES = [
  [
    'own',
    'Own segment',
    (c) =>
      `Everything since the last cut: at most ${number(c.segment.max)} tokens, cut by \u201c${c.policy.name}\u201d.`,
  ],
  [
    'sinks',
    'Sinks',
    (c) =>
      c.carry.sinks === 0
        ? 'None in this contract.'
        : `The first ${number(c.carry.sinks)} tokens of the sequence, kept for every head.`,
  ],
  [
    'carry',
    'Carry',
    (c) =>
      c.carry.size === 0
        ? 'None in this contract.'
        : `The last ${number(c.carry.size)} tokens before the cut, for ${c.carry.heads === 'all' ? 'every head' : 'local heads'}.`,
  ],
  ['retrieved', 'Retrieved', (c) => retrievedWords(c)],
];

/** Long lists of words, say of abbreviations, would hide the rest. */
function short(text) {
  return text.length <= 90 ? text : `${text.slice(0, 80)}…`;
}

function retrievedWords(contract) {
  const count = headGroups(contract).long.length;
  if (count === 0 || contract.retrieval.size === 0) return 'None in this contract.';
  return `${number(contract.retrieval.size)} earlier tokens for ${count === 1 ? 'one long head' : `each of ${count} long heads`}, chosen at the cut.`;
}

export function showFacts(contract) {
  const trained = contract.trained;
  byId('chips').append(
    h('li', { class: 'chip' }, h('b', {}, contract.name)),
    h('li', { class: 'chip' }, `${contract.engine.name} ${contract.engine.precision}`),
    h(
      'li',
      { class: 'chip', title: contract.digest },
      'digest ',
      h('b', {}, contract.digest.slice(0, 10)),
    ),
    trained.steps === 0
      ? h('li', { class: 'chip warn' }, 'not trained under this contract')
      : h('li', { class: 'chip good' }, `trained: ${number(trained.steps)} steps`),
  );
  byId('keys').append(
    ...ROLES.map(([role, name, words]) =>
      h('li', { class: `role-${role}` }, h('b', {}, name), h('span', {}, words(contract))),
    ),
  );
  const { segment, carry, retrieval, policy, model } = contract;
  const parameters = Object.entries(policy.params)
    .map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    .join(', ');
  const rows = [
    ['Policy', `${policy.name}${parameters === '' ? '' : ` (${short(parameters)})`}`],
    [
      'Segment',
      `${segment.min} to ${segment.max} tokens (S)${segment.align > 1 ? `, multiples of ${segment.align}` : ''}`,
    ],
    ['Carry', `${carry.size} tokens (M)${carry.heads === 'all' ? ', every head' : ''}`],
    ['Sinks', `${carry.sinks} tokens (A)`],
    [
      'Retrieval',
      retrieval.layers.length === 0
        ? 'none'
        : `${retrieval.size} rows (R) by \u201c${retrieval.recipe}\u201d in layers ${retrieval.layers.join(', ')}`,
    ],
    [
      'Trained',
      trained.steps === 0
        ? 'no: any checkpoint runs thanks to its sinks, training makes it better'
        : `${number(trained.steps)} steps, ${number(trained.tokens)} tokens, K = ${contract.training.truncation}`,
    ],
    [
      'Model',
      `${model.layers} layers, ${model.queryHeads} query and ${model.kvHeads} KV heads of ${model.headDim}`,
    ],
    [
      'Session limit',
      `${number(contract.limits.tokens)} tokens, ${contract.limits.sessions} at once`,
    ],
    ['Policy file', h('code', {}, policy.sha256)],
    ['Digest', h('code', {}, contract.digest)],
  ];
  byId('facts').append(...rows.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
  showHeads(contract);
}

function showHeads(contract) {
  const { layers, kvHeads } = contract.model;
  const pooled = new Set(contract.retrieval.layers);
  const cell = 10;
  let numbered = -2;
  const picture = svg('svg', {
    viewBox: `-4 0 ${layers * (cell + 2) + 4} ${kvHeads * (cell + 2) + 14}`,
    role: 'img',
    'aria-label': `KV heads by layer: ${describeHeads(contract)}`,
  });
  for (let layer = 0; layer < layers; layer++) {
    const long = new Set(contract.heads.long[layer]);
    for (let head = 0; head < kvHeads; head++) {
      const kind = !long.has(head) ? 'local' : pooled.has(layer) ? 'long' : 'window';
      picture.append(
        svg(
          'rect',
          {
            x: layer * (cell + 2),
            y: head * (cell + 2),
            width: cell,
            height: cell,
            rx: 2,
            class: `head-${kind}`,
          },
          svg(
            'title',
            {},
            `Layer ${layer}, KV head ${head}: ${kind === 'local' ? 'local' : kind === 'long' ? 'long, retrieves' : 'long without a pool'}`,
          ),
        ),
      );
    }
    // Neighbours would write over each other.
    if ((layer % 5 === 0 || pooled.has(layer)) && layer - numbered >= 2) {
      numbered = layer;
      picture.append(
        svg(
          'text',
          {
            x: layer * (cell + 2) + cell / 2,
            y: kvHeads * (cell + 2) + 9,
            'text-anchor': 'middle',
          },
          String(layer),
        ),
      );
    }
  }
  byId('heads').append(picture);
  byId('heads-note').append(
    'KV heads, a column a layer. ',
    h('span', { class: 'dot role-carry' }),
    'local ',
    h('span', { class: 'dot role-retrieved' }),
    'long with a pool ',
    h('span', { class: 'dot role-full' }),
    'long without',
  );
}

function describeHeads(contract) {
  const groups = headGroups(contract);
  return `${groups.local} local, ${groups.long.length} long with a pool, ${groups.window} long without`;
}
