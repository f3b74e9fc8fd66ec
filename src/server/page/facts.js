// The contract in words and as a map of heads.
import { byId, h, svg } from './dom.js';
import { legendOf } from './legend.js';
import { headGroups, number } from './model.js';

/** Long lists of words, say of abbreviations, would hide the rest. */
function short(text) {
  return text.length <= 90 ? text : `${text.slice(0, 80)}…`;
}

export function showFacts(contract) {
  const trained = contract.trained;
  byId('keys').replaceChildren(
    ...legendOf(contract).map(({ role, name, words }) =>
      h('li', { class: `role-${role}` }, h('b', {}, name), h('span', {}, words)),
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
        ? 'No. Quality is lower until it is trained under this contract.'
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
  byId('facts').replaceChildren(
    ...rows.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]),
  );
  showHeads(contract);
}

function showHeads(contract) {
  const { layers, kvHeads } = contract.model;
  const pooled = new Set(contract.retrieval.layers);
  const pitch = Math.min(28, Math.max(16, Math.floor(448 / layers)));
  const cell = pitch - 2;
  let numbered = -2;
  const [width, height] = [layers * pitch + 8, kvHeads * pitch + 16];
  const picture = svg('svg', {
    viewBox: `-4 -1 ${width} ${height}`,
    width,
    height,
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
            x: layer * pitch,
            y: head * pitch,
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
            x: layer * pitch + cell / 2,
            y: kvHeads * pitch + 11,
            'text-anchor': 'middle',
          },
          String(layer),
        ),
      );
    }
  }
  byId('heads').replaceChildren(picture);
  byId('heads-note').replaceChildren(
    h('span', {}, 'KV heads; each column is a layer.'),
    ...key('role-local', 'local'),
    ...key('role-long', 'long, retrieves'),
    ...(headGroups(contract).window > 0 ? key('role-long hollow', 'long, without a pool') : []),
  );
}

function key(name, words) {
  return [h('span', {}, h('span', { class: `dot ${name}` }), words)];
}

function describeHeads(contract) {
  const groups = headGroups(contract);
  return `${groups.local} local, ${groups.long.length} long with a pool, ${groups.window} long without`;
}
