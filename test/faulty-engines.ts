// Engines that compute something else than their checkpoint says, each in one way, made of one that does not.
import { readContract } from '../src/checkpoint/index.ts';
import type { Engine, Retrieved, StepResult } from '../src/engines/engine.ts';
import type { OpenEngine } from '../src/engines/verify/index.ts';

/** An engine on another checkpoint that claims to serve this one: what a faulty export would be. */
export function posing(torch: OpenEngine, other: string): OpenEngine {
  return async (at) => {
    const { contract } = await readContract(at);
    const engine = await torch(other);
    return {
      info: engine.info,
      contract,
      get sessions() {
        return engine.sessions;
      },
      open: () => engine.open(),
      close: () => engine.close(),
    };
  };
}

/** What a faulty engine does otherwise. */
interface Fault {
  /** Changes the result of a step of `tokens` tokens. */
  stepped: (result: StepResult, tokens: number) => void;
  replaced?: (retrieved: Retrieved[]) => void;
}

/** An engine with a fault in its steps. */
function faulty(torch: OpenEngine, { stepped, replaced }: Fault): OpenEngine {
  return async (at) => {
    const engine = await torch(at);
    const wrapped: Engine = {
      info: engine.info,
      contract: engine.contract,
      get sessions() {
        return engine.sessions;
      },
      close: () => engine.close(),
      async open() {
        const session = await engine.open();
        return {
          id: session.id,
          memory: () => session.memory(),
          fork: () => session.fork(),
          close: () => session.close(),
          async step(ids, options) {
            const result = await session.step(ids, options);
            stepped(result, ids.length);
            return result;
          },
          async replaceRetrieved(retrieved) {
            replaced?.(retrieved);
            await session.replaceRetrieved(retrieved);
          },
        };
      },
    };
    return wrapped;
  };
}

/** An engine whose retrieval takes one other position at the fourth boundary; notes what replaced it. */
export function straying(torch: OpenEngine, noted: number[]): OpenEngine {
  let boundaries = 0;
  return faulty(torch, {
    stepped({ boundary }) {
      if (boundary === null) return;
      boundaries += 1;
      const list = boundary.retrieved[0]?.positions[0];
      // Not a near-tie: the first row that was not retrieved instead of the last that was.
      const free = list?.findIndex((value, i) => value !== i) ?? -1;
      if (boundaries < 4 || list === undefined || free < 0 || noted.length > 0) return;
      list.copyWithin(free + 1, free, list.length - 1);
      list[free] = free;
      noted.push(boundary.at);
    },
    replaced: (retrieved) => noted.push(retrieved.length),
  });
}

/** An engine whose logits are wrong in the steps that `wrong` names by their number of tokens. */
export const shifted = (torch: OpenEngine, wrong: (tokens: number) => boolean): OpenEngine =>
  faulty(torch, {
    stepped({ logits }, tokens) {
      if (!wrong(tokens)) return;
      for (let at = 0; at < logits.length; at += 2) logits[at] = (logits[at] as number) + 0.1;
    },
  });
