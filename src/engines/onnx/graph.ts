// One run of the step graph: tokens of an open segment in, logits out, state rows appended in place.
import * as ort from 'onnxruntime-node';
import type { HeadGroup, SequenceState } from '../../state/index.ts';
import { nativeRun } from './native-run.ts';
import type { WorkerSetup } from './protocol.ts';
import { loadGraph } from './session.ts';

type Feeds = Record<string, ort.Tensor>;

export class StepGraph {
  readonly #session: ort.InferenceSession;
  readonly #half: number;
  readonly #flags: Int32Array;
  /** Tensors over state buffers. A buffer that grew is another array and gets another tensor. */
  readonly #tensors = new WeakMap<Float32Array, ort.Tensor>();

  private constructor(session: ort.InferenceSession, setup: WorkerSetup) {
    this.#session = session;
    this.#half = setup.layout.headDim / 2;
    this.#flags = setup.flags;
  }

  static async load(setup: WorkerSetup): Promise<StepGraph> {
    const session = await loadGraph(setup.graph, setup);
    return new StepGraph(session, setup);
  }

  /**
   * Run the next tokens of the state's open segment.
   *
   * @param rows which of the tokens' logits are wanted
   * @returns logits [rows, vocabulary]
   */
  async run(state: SequenceState, tokens: Int32Array, rows: number[]): Promise<Float32Array> {
    const count = tokens.length;
    const { cos, sin } = state.prepare(count);
    const feeds: Feeds = {
      ids: new ort.Tensor('int64', BigInt64Array.from(tokens, BigInt), [count]),
      rows: new ort.Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
      cos: new ort.Tensor('float32', cos, [count, this.#half]),
      sin: new ort.Tensor('float32', sin, [count, this.#half]),
    };
    const fetches: Record<string, ort.Tensor | null> = { logits: null };
    for (const { group, buffer, prefix } of state.groups) {
      const name = `${group.layer}.${group.name}`;
      // Groups of one name have prefixes of one length; a head that stands by itself has its own.
      const rows = group.name === group.kind ? group.prefix : name;
      if (feeds[`${rows}_last`] === undefined) {
        const total = prefix + state.openLength + count;
        feeds[`${rows}_last`] = new ort.Tensor('int32', Int32Array.of(total - 1), [1]);
        feeds[`${rows}_total`] = new ort.Tensor('int32', Int32Array.of(total), []);
      }
      const shape = [1, buffer.heads, buffer.capacity, buffer.dim];
      // The same memory in and out: the attention node appends to it and copies nothing.
      feeds[`${name}.keys`] = fetches[`${name}.keys.out`] = this.#tensor(buffer.keys, shape);
      feeds[`${name}.values`] = fetches[`${name}.values.out`] = this.#tensor(buffer.values, shape);
      if (group.prefix !== 'long') continue;
      fetches[`${rawName(group)}.raw_queries`] = null;
      fetches[`${rawName(group)}.raw_keys`] = null;
    }
    const out = await nativeRun(this.#flags, () => this.#session.run(feeds, fetches));
    const floats = (name: string): Float32Array => (out[name] as ort.Tensor).data as Float32Array;
    state.advance(count, (group) => ({
      queries: floats(`${rawName(group)}.raw_queries`),
      keys: floats(`${rawName(group)}.raw_keys`),
    }));
    return floats('logits');
  }

  #tensor(data: Float32Array, shape: number[]): ort.Tensor {
    let tensor = this.#tensors.get(data);
    if (tensor === undefined) {
      tensor = new ort.Tensor('float32', data, shape);
      this.#tensors.set(data, tensor);
    }
    return tensor;
  }
}

function rawName({ layer, name }: HeadGroup): string {
  return name === 'long' ? `${layer}` : `${layer}.${name}`;
}
