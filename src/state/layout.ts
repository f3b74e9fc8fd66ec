// How a contract divides a model: per layer the groups of KV heads that see the same prefix.
import type { Contract, Recipe } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';

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
  /** Sinks and carry; sinks and retrieved rows; or sinks alone. */
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
  groups: readonly HeadGroup[];
}

type Parts = Pick<Contract, 'segment' | 'carry' | 'retrieval' | 'heads'>;

function checkRecipe({ carry, retrieval }: Parts): void {
  for (const [field, expected, got] of [
    ['retrieval.recipe', 'anchors or topk', retrieval.recipe],
    ['carry.heads', 'local', carry.heads ?? 'local'],
  ] as const) {
    if (got !== 'blocks' && got !== 'all') continue;
    throw new LockstepError(
      'LS_ENGINE_RECIPE',
      `expected ${field} to be ${expected}, got ${got}: the onnx engine does not compute it`,
      { mend: 'Serve this checkpoint with lockstep serve --engine torch.', field },
    );
  }
}

/**
 * The layout of a model under a contract.
 *
 * @throws LS_CONTRACT_HEADS when the contract was made for a model of another shape;
 *   LS_ENGINE_RECIPE for what these state managers do not compute
 */
export function layoutOf(contract: Parts, shape: ModelShape): Layout {
  const { long } = contract.heads;
  if (long.length !== shape.layers || long.flat().some((head) => head >= shape.kvHeads)) {
    throw new LockstepError(
      'LS_CONTRACT_HEADS',
      `expected long heads for ${shape.layers} layers of ${shape.kvHeads} KV heads, got ${long.length} layers with heads up to ${Math.max(-1, ...long.flat())}`,
      { mend: 'Attach a contract that was made for this model.', field: 'heads.long' },
    );
  }
  checkRecipe(contract);
  const retrieval = contract.retrieval.size;
  const layers = new Set(retrieval > 0 ? contract.retrieval.layers : []);
  const groups = long.flatMap((heads, layer): HeadGroup[] => {
    const local: HeadGroup = {
      layer,
      kind: 'local',
      prefix: 'local',
      heads: shape.kvHeads - heads.length,
    };
    const far: HeadGroup = {
      layer,
      kind: 'long',
      prefix: layers.has(layer) ? 'long' : 'bare',
      heads: heads.length,
    };
    return [local, far].filter((group) => group.heads > 0);
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
    groups,
  };
}

/** Most rows that a group's buffer holds: its longest prefix and a whole segment. */
export function rowLimit(layout: Layout, group: HeadGroup): number {
  const extra = { local: layout.carry, long: layout.retrieval, bare: 0 }[group.prefix];
  return layout.sinks + extra + layout.segment;
}
