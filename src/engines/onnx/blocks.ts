// Masses of blocks at a boundary, by onnxruntime: one matrix product a chunk of a pool, far quicker than
// a loop here.
import path from 'node:path';
import * as ort from 'onnxruntime-node';
import type { Found, GroupState, PartialMass, SequenceState } from '../../state/index.ts';
import { nativeRun } from './native-run.ts';
import type { WorkerSetup } from './protocol.ts';
import { loadGraph } from './session.ts';

export class BlocksGraph {
  readonly #session: ort.InferenceSession;
  readonly #flags: Int32Array;
  readonly #dim: number;

  private constructor(session: ort.InferenceSession, setup: WorkerSetup) {
    this.#session = session;
    this.#flags = setup.flags;
    this.#dim = setup.layout.headDim;
  }

  static async load(setup: WorkerSetup): Promise<BlocksGraph> {
    const file = path.join(path.dirname(setup.graph), 'blocks.onnx');
    return new BlocksGraph(await loadGraph(file, setup), setup);
  }

  /** For `SequenceState.close`: what each group with a choice asks for. */
  async of(state: SequenceState): Promise<ReadonlyMap<GroupState, Found>> {
    const found = new Map<GroupState, Found>();
    for (const group of state.groups) {
      const asked = group.scoring();
      if (asked === null) continue;
      const rows = asked.queries.length / this.#dim;
      const queries = new ort.Tensor('float32', asked.queries, [rows, this.#dim]);
      const parts: PartialMass[] = [];
      for (const chunk of asked.chunks) {
        const block = Math.min(asked.block, chunk.rows);
        const shape = BigInt64Array.of(BigInt(rows), BigInt(chunk.rows / block), BigInt(block));
        const data = chunk.data.subarray(0, chunk.rows * this.#dim) as Float32Array;
        const out = await nativeRun(this.#flags, () =>
          this.#session.run({
            queries,
            keys: new ort.Tensor('float32', data, [chunk.rows, this.#dim]),
            shape: new ort.Tensor('int64', shape, [3]),
          }),
        );
        parts.push({
          top: out['top']?.data as Float32Array,
          sums: out['sums']?.data as Float32Array,
        });
      }
      found.set(group, { parts });
    }
    return found;
  }
}
