// Answers like vLLM over real sockets, with the stream that the request's `seed` stands for.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { EOS, type FaultyStream, faultyStream } from './faults.ts';
import { paceOf } from './pace.ts';

export interface FaultyUpstream {
  url: string;
  close(): Promise<void>;
}

/** What a request with this seed gets; on its prompt only the bytes depend, not what was generated. */
export function streamOf(seed: number, maxTokens: number): FaultyStream {
  return faultyStream(seed, { prompt: [97], maxTokens });
}

/** The text that vLLM generated. */
export function textOf({ original }: FaultyStream): string {
  return String.fromCharCode(...original.tokens.filter((id) => id !== EOS));
}

/**
 * @param digest of the contract that it says to serve
 * @param stallMs some streams pause for longer than this, or drip; null: none does
 */
export async function faultyUpstream(
  digest: string,
  stallMs: number | null = null,
): Promise<FaultyUpstream> {
  const server = createServer((request, response) => {
    if (request.method === 'GET') return told(request, response, digest);
    answer(request, response, stallMs).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function told({ url }: IncomingMessage, response: ServerResponse, digest: string): void {
  const engine = { rank: 0, digest, architecture: 'SegmentedLlamaForCausalLM', pid: 1 };
  const pages: Record<string, object> = {
    '/health': {},
    '/lockstep': { digest, version: '0.1.0', engines: [engine] },
    '/v1/models': { data: [{ id: 'fake', max_model_len: 4096 }] },
  };
  const page = pages[url ?? ''];
  response.writeHead(page === undefined ? 404 : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(page ?? {}));
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  stallMs: number | null,
): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const body = JSON.parse(Buffer.concat(parts).toString()) as {
    prompt: string | number[];
    seed: number;
    max_tokens: number;
    logprobs?: number | null;
  };
  const { seed, max_tokens: maxTokens, logprobs = null } = body;
  const prompt = typeof body.prompt === 'string' ? [...Buffer.from(body.prompt)] : body.prompt;
  const asked = { prompt, maxTokens, logprobs: logprobs !== null };
  const stream = faultyStream(seed, asked);
  const { packets, broken } = stream;
  const { stall, drip } = stallMs === null ? { stall: null, drip: 0 } : paceOf(stream);
  const pause = () => sleep(2 * (stallMs ?? 0), undefined, { ref: false });
  if (stall === -1) await pause();
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  let dripped = 0;
  for (const [i, packet] of packets.entries()) {
    // What comes after the pause comes too late.
    if (i === stall) await pause();
    let rest = packet;
    for (; dripped < drip && rest.length > 0; dripped++) {
      if (response.destroyed) return;
      response.write(rest.subarray(0, 1));
      rest = rest.subarray(1);
      await sleep(2);
    }
    if (response.destroyed) return;
    if (rest.length > 0) response.write(rest);
    // Every eighth answer is a slow one.
    if (seed % 8 === 0 && i < 20) await sleep(i % 3);
  }
  if (!broken) {
    response.end();
    return;
  }
  // What was written is on its way before the connection breaks.
  await sleep(2);
  response.destroy();
}
