// How a contract divides a model: per layer the groups of KV heads that see the same prefix.
import type { Contract, Recipe } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import type { BlockSizes } from './blocks.ts';

/** The shape of a model, as far as its keys and values go. */
export interface ModelShape {
  layers: number;
  queryHeads: number;
  kvHeads: number;
  headDim: number;
}

/** KV heads of one kind in one layer. */
export interface HeadGroup {
  layer: number;
  kind: 'local' | 'long';
  /** What the graph calls it: its kind, or `long0`, ... where each long head stands by itself. */
  name: string;
  /** Sinks and carry; sinks and retrieved rows (and the carry, with `allCarry`); or sinks alone. */
  prefix: 'local' | 'long' | 'bare';
  /** Number of KV heads. */
  heads: number;
}

/** Symbols of SEMANTICS.md 1 with the groups of every layer, in order. */
export interface Layout extends ModelShape {
  segment: number;
  carry: number;
  sinks: number;
  retrieval: number;
  recipe: Recipe;
  /** Sizes of the recipe `blocks`; null with another. */
  blocks: BlockSizes | null;
  /** Long heads carry too. */
  allCarry: boolean;
  groups: readonly HeadGroup[];
}

type Parts = Pick<Contract, 'segment' | 'carry' | 'retrieval' | 'heads'>;

/**
 * The layout of a model under a contract.
 *
 * @throws LS_CONTRACT_HEADS when the contract was made for a model of another shape
 */
export function layoutOf(contract: Parts, shape: ModelShape): Layout {
  const { long } = contract.heads;
  if (long.length !== shape.layers || long.flat().some((head) => head >= shape.kvHeads)) {
    throw new LockstepError(
      'LS_CONTRACT_HEADS',
      `expected long heads for ${shape.layers} layers of ${shape.kvHeads} KV heads, got ${long.length} layers with heads up to ${Math.max(-1, ...long.flat())}`,
      { fix: 'Attach a contract that was made for this model.', field: 'heads.long' },
    );
  }
  const retrieval = contract.retrieval.size;
  const layers = new Set(retrieval > 0 ? contract.retrieval.layers : []);
  const blocks = contract.retrieval.recipe === 'blocks' ? contract.retrieval : null;
  const allCarry = contract.carry.heads === 'all';
  const groups = long.flatMap((heads, layer): HeadGroup[] => {
    const local: HeadGroup = {
      layer,
      kind: 'local',
      name: 'local',
      prefix: 'local',
      heads: shape.kvHeads - heads.length,
    };
    const far: HeadGroup = {
      layer,
      kind: 'long',
      name: 'long',
      prefix: layers.has(layer) ? 'long' : allCarry ? 'local' : 'bare',
      heads: heads.length,
    };
    // Blocks: a head that takes the pool's shorter last one has a shorter prefix than others.
    const apart = blocks !== null && layers.has(layer);
    const long = apart ? heads.map((_, i) => ({ ...far, name: `long${i}`, heads: 1 })) : [far];
    return [local, ...long].filter((group) => group.heads > 0);
  });
  return {
    layers: shape.layers,
    queryHeads: shape.queryHeads,
    kvHeads: shape.kvHeads,
    headDim: shape.headDim,
    segment: contract.segment.max,
    carry: contract.carry.size,
    sinks: contract.carry.sinks,
    retrieval,
    recipe: contract.retrieval.recipe,
    blocks: blocks && {
      block: blocks.block,
      distance: blocks.distance,
      window: blocks.window,
    },
    allCarry,
    groups,
  };
}

/** Most rows that a group's buffer holds: its longest prefix and a whole segment. */
export function rowLimit(layout: Layout, group: HeadGroup): number {
  const { carry, retrieval, allCarry } = layout;
  const extra = { local: carry, long: retrieval + (allCarry ? carry : 0), bare: 0 }[group.prefix];
  return layout.sinks + extra + layout.segment;
}
