// Products of a closing segment's query vectors and the pools, by onnxruntime: far quicker than scoring
// every key here, and enough to know which keys can be among the best.
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import {
  type Found,
  type GroupState,
  type Products,
  pageRows,
  queryVectors,
  type SequenceState,
} from '../../state/index.ts';
import { nativeRun } from './native-run.ts';
import type { WorkerSetup } from './protocol.ts';
import { loadGraph } from './session.ts';

/** Pages of a pool from which on this is quicker. */
const fewestPages = 3;

export class ProductsGraph {
  readonly #session: ort.InferenceSession;
  readonly #flags: Int32Array;

  private constructor(session: ort.InferenceSession, shared: Int32Array) {
    this.#session = session;
    this.#flags = shared;
  }

  static async load(setup: WorkerSetup): Promise<ProductsGraph> {
    const file = path.join(path.dirname(setup.graph), 'products.onnx');
    return new ProductsGraph(await loadGraph(file, setup), setup.flags);
  }

  /** For `SequenceState.close`: by group, a [heads, vectors, 256] for every page of its pool. */
  async of(state: SequenceState): Promise<ReadonlyMap<GroupState, Found>> {
    const found = new Map<GroupState, Found>();
    // topk scores with one vector and wants every score.
    if (state.layout.recipe !== 'anchors') return found;
    for (const group of state.groups) {
      const { pool, queries } = group;
      if (pool === null || queries === null) continue;
      const pages = pool.keyPages();
      if (pages.length < fewestPages || pool.length <= state.layout.retrieval) continue;
      const byHead = Array.from({ length: pool.heads }, (_, head) =>
        queryVectors(queries.of(head), pool.dim),
      );
      const count = byHead[0]?.length ?? 0;
      const flat = new Float32Array(pool.heads * count * pool.dim);
      byHead.flat().forEach((vector, at) => {
        flat.set(vector, at * pool.dim);
      });
      const vectors = new ort.Tensor('float32', flat, [pool.heads, count, pool.dim]);
      const products: Products[] = [];
      for (const page of pages) {
        const keys = new ort.Tensor('float32', page, [pool.heads, pageRows, pool.dim]);
        const out = await nativeRun(this.#flags, () =>
          this.#session.run({ queries: vectors, keys }),
        );
        products.push(out['products']?.data as Products);
      }
      found.set(group, { products });
    }
    return found;
  }
}
