// `/tokenize`, `/detokenize` and `/lockstep/plan`: nothing here runs the model.
import type { Request, Response } from 'express';
import { LARGE_BYTES } from '../large/pool.ts';
import { answerTool, type Kit, readJson, type ToolName } from '../large/work.ts';
import { givenBytes, inPool, type Reading } from '../requests/body.ts';

/** Answer a small body here and a large one by a worker thread. */
export function tool(name: ToolName, kit: Kit, reading: Reading) {
  return async (request: Request, response: Response): Promise<void> => {
    const bytes = givenBytes(request);
    const facts = reading.facts();
    if (bytes.length < LARGE_BYTES) {
      response.json(await answerTool(name, readJson(bytes), kit, facts));
      return;
    }
    const answer = await inPool(request, response, reading, (signal, ticket) =>
      reading.pool.run({ kind: 'tool', tool: name, body: bytes, facts }, signal, ticket),
    );
    response.type('json').send(Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength));
  };
}
