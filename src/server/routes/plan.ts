// `/tokenize`, `/detokenize` and `/lockstep/plan`: nothing here runs the model.
import type { Request, Response } from 'express';
import { plan } from '../../planner/index.ts';
import type { Workshop } from '../answers/answer.ts';
import { checkIds, encodePrompt, TokenShow } from '../prompt/tokens.ts';
import { detokenizeRequest, planRequest, tokenizeRequest } from '../requests/completions.ts';
import { parseBody } from '../requests/parse.ts';
import { checkModel, limitOf, type Served } from './completions.ts';

/** Ids of a text, as the model would be given them. */
export function tokenize(served: Served, shop: Workshop) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = parseBody(tokenizeRequest, request.body);
    checkModel(body.model, served.model);
    const tokens = await encodePrompt(body.text, shop.tokenizer, shop.source.contract);
    response.json({
      tokens: Array.from(tokens),
      count: tokens.length,
      max_model_len: limitOf(served, shop),
    });
  };
}

export function detokenize(served: Served, shop: Workshop) {
  return (request: Request, response: Response): void => {
    const body = parseBody(detokenizeRequest, request.body);
    checkModel(body.model, served.model);
    const ids = checkIds(body.tokens, 'tokens', shop.runner.info.vocabulary);
    response.json({ text: shop.tokenizer.decode(ids, { skipSpecial: false }) });
  };
}

/** Where the contract's policy cuts a text: decided cuts, and every segment's own text. */
export function planText(shop: Workshop) {
  return async (request: Request, response: Response): Promise<void> => {
    const { text } = parseBody(planRequest, request.body);
    const { contract } = shop.source;
    const tokens = await encodePrompt(text, shop.tokenizer, contract);
    const boundaries = await plan(shop.source, tokens);
    const show = new TokenShow(shop.tokenizer);
    const special: number[] = [];
    const texts = Array.from(tokens, (id, i) => {
      const token = show.push(id);
      if (token.special) special.push(i);
      return token.text;
    });
    if (texts.length > 0) texts[texts.length - 1] += show.end();
    const ends = boundaries.at(-1) === tokens.length ? boundaries : [...boundaries, tokens.length];
    const segments =
      tokens.length === 0
        ? []
        : ends.map((end, index) => {
            const start = ends[index - 1] ?? 0;
            return {
              index,
              start,
              end,
              closed: index < boundaries.length,
              text: texts.slice(start, end).join(''),
            };
          });
    response.json({
      tokens: Array.from(tokens),
      texts,
      special,
      boundaries,
      segments,
      digest: contract.digest,
    });
  };
}
