// Answers like vLLM over real sockets, with the stream that the request's `seed` stands for.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { EOS, type FaultyStream, faultyStream } from './faults.ts';

export interface FaultyUpstream {
  url: string;
  close(): Promise<void>;
}

/** The stream that a request with this seed gets, and so what a client of it may see. */
export function streamOf(seed: number, prompt: string, maxTokens: number): FaultyStream {
  return faultyStream(seed, { prompt: [...Buffer.from(prompt)], maxTokens });
}

/** The text that vLLM generated. */
export function textOf({ original }: FaultyStream): string {
  return String.fromCharCode(...original.tokens.filter((id) => id !== EOS));
}

/** @param digest of the contract that it says to serve */
export async function faultyUpstream(digest: string): Promise<FaultyUpstream> {
  const server = createServer((request, response) => {
    if (request.method === 'GET') return told(request, response, digest);
    answer(request, response).catch(() => response.destroy());
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

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const body = JSON.parse(Buffer.concat(parts).toString()) as {
    prompt: string | number[];
    seed: number;
    max_tokens: number;
  };
  const { seed, max_tokens: most } = body;
  const prompt = typeof body.prompt === 'string' ? [...Buffer.from(body.prompt)] : body.prompt;
  const { packets, broken } = faultyStream(seed, { prompt, maxTokens: most });
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
  response.socket?.setNoDelay(true);
  for (const [i, packet] of packets.entries()) {
    if (response.destroyed) return;
    response.write(packet);
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
