// A collector of OpenTelemetry traces on a real socket.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Any } from './server-client.ts';

const open: Server[] = [];

/** Close all that a test opened. */
export function closeCollectors(): void {
  for (const server of open.splice(0)) server.close();
}

/** A collector of OTLP over HTTP; gives the spans that came as JSON, their texts, and what came as protobuf. */
export async function collector() {
  const bodies: string[] = [];
  const binary: Buffer[] = [];
  const server = createServer(async (request, response) => {
    const parts: Buffer[] = [];
    for await (const chunk of request) parts.push(chunk as Buffer);
    const body = Buffer.concat(parts);
    if (request.headers['content-type'] === 'application/x-protobuf') binary.push(body);
    else bodies.push(body.toString());
    response.setHeader('content-type', 'application/json');
    response.end('{}');
  });
  open.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const spans = (): Any[] =>
    bodies.flatMap((body) =>
      JSON.parse(body).resourceSpans.flatMap((one: Any) =>
        one.scopeSpans.flatMap((scope: Any) => scope.spans),
      ),
    );
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1/traces`,
    spans,
    text: () => bodies.join('\n'),
    protobuf: () => binary,
  };
}
