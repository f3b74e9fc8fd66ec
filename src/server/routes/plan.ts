// `/tokenize`, `/detokenize` and `/lockstep/plan`: nothing here runs the model.
import type { Request, Response } from 'express';
import { LARGE_BYTES } from '../large/pool.ts';
import { answerTool, readJson, schemas, type ToolName } from '../large/work.ts';
import type { ServedModel } from '../models/model.ts';
import type { Models } from '../models/models.ts';
import { bodyBytes, inPool, type Reading } from '../requests/body.ts';
import { markChecked, parseBody } from '../requests/parse.ts';
import { queryModel } from './query-model.ts';

/** Answer a small body here and a large one by a worker thread. */
export function tool(name: ToolName, models: Models, reading: Reading) {
  /** `/lockstep/plan` is asked with `?model=`, as the other paths below `/lockstep/` are. */
  const inBody = name !== 'plan';
  return async (request: Request, response: Response): Promise<void> => {
    const bytes = bodyBytes(request);
    const take = (given: string | undefined): ServedModel =>
      models.take(inBody ? given : queryModel(request, models).name, response);
    if (bytes.length < LARGE_BYTES) {
      const schema = schemas[name];
      const body = parseBody(schema as never, readJson(bytes)) as { model?: string };
      markChecked(schema, body);
      const model = take(body.model);
      const { tokenizer, source } = model.context;
      response.json(await answerTool(name, body, { tokenizer, source }, factsOf(model)));
      return;
    }
    const answer = await inPool(request, response, reading.timeouts, async (signal, ticket) => {
      const { pool } = reading;
      const read = { kind: 'body', schema: name, body: bytes, counts: reading.counts() } as const;
      const given = inBody ? await pool.run({ ...read, only: 'model' }, signal, ticket) : {};
      const model = take((given as { model?: string }).model);
      const facts = factsOf(model);
      return pool.run(
        { kind: 'tool', kit: model.kit, tool: name, body: bytes, facts },
        signal,
        ticket,
      );
    });
    response.type('json').send(Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength));
  };
}

function factsOf({ maxTokens, runner }: ServedModel) {
  return { tokens: maxTokens, vocabulary: runner.info.vocabulary };
}
