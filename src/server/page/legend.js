// The legend of every surface: the words of docs/semantics.md, with the numbers of a contract.

/** Numbers as people read them: a narrow space between thousands. */
const number = (value) => String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
const plural = (count, word) => `${number(count)} ${word}${count === 1 ? '' : 's'}`;

/** @param {import('./legend.js').LegendContract} contract */
export function legendOf({ policy, segment, carry, retrieval, heads }) {
  const none = 'None in this contract.';
  const all = carry.heads === 'all';
  const long = heads.long.reduce((sum, list) => sum + list.length, 0);
  const layers = retrieval.layers.length;
  const retrieves =
    retrieval.size > 0 && retrieval.layers.some((layer) => (heads.long[layer] ?? []).length > 0);
  const where =
    layers === heads.long.length
      ? ' and what was retrieved'
      : ` and, in ${plural(layers, 'layer')}, what was retrieved`;
  return [
    {
      role: 'segment',
      name: 'Segment',
      words: `The tokens between two cuts: ${segment.min === segment.max ? '' : `${number(segment.min)} to `}${number(segment.max)}, cut by “${policy.name}”. A token sees those before it.`,
    },
    {
      role: 'sinks',
      name: 'Sinks',
      words:
        carry.sinks === 0
          ? none
          : `The first ${plural(carry.sinks, 'token')} of the sequence. All heads see them.`,
    },
    {
      role: 'carry',
      name: 'Carry',
      words:
        carry.size === 0
          ? none
          : `The last ${plural(carry.size, 'token')} before the segment. ${all ? 'All' : 'Local'} heads see them.`,
    },
    {
      role: 'retrieved',
      name: 'Retrieved',
      words: retrieves
        ? `${plural(retrieval.size, 'row')} of the pool for each long head, chosen at the cut before the segment.`
        : none,
    },
    {
      role: 'pool',
      name: 'Pool',
      words: retrieves
        ? 'Keys and values of all earlier tokens, kept for the long heads to retrieve from.'
        : none,
    },
    {
      role: 'local',
      name: 'Local heads',
      words: 'KV heads that see the sinks, the carry and their segment.',
    },
    {
      role: 'long',
      name: 'Long heads',
      words:
        long === 0
          ? none
          : `${plural(long, 'KV head')} that ${long === 1 ? 'sees' : 'see'} the sinks${all ? ', the carry' : ''}${retrieves ? `, the segment${where}` : ' and the segment'}.`,
    },
    {
      role: 'full',
      name: 'Full attention',
      words: 'Every token sees all before it, and all are kept. Segments are compared with it.',
    },
  ];
}
