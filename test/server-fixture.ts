// A server in front of the toy engine, for a whole test file.
import { rm } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { createServer, type LockstepServer, type ServerOptions } from '../src/server/index.ts';
import { clientOf, type TestClient } from './server-client.ts';
import { makeToy, type Toy, ToyEngine, type ToyFaults } from './server-toy.ts';

export type Served = TestClient & { engine: ToyEngine; server: LockstepServer };

export interface ToyServers {
  readonly toy: Toy;
  serve(faults?: ToyFaults, options?: ServerOptions): Promise<Served>;
  /** Close this one too at the end of the test. */
  own(server: LockstepServer): LockstepServer;
}

/**
 * Servers that are closed after each test; the checkpoint goes at the end of the file.
 *
 * @param make the checkpoint; one without a chat template starts at once
 */
export function toyServers(make: () => Promise<Toy> = makeToy): ToyServers {
  let toy: Toy;
  const open: LockstepServer[] = [];
  beforeAll(async () => {
    toy = await make();
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((server) => server.close()));
  });
  afterAll(async () => {
    await rm(toy.dir, { recursive: true, force: true });
  });
  const own = (server: LockstepServer) => {
    open.push(server);
    return server;
  };
  return {
    get toy() {
      return toy;
    },
    own,
    async serve(faults = {}, options = {}) {
      const engine = new ToyEngine(toy, faults);
      const server = own(
        createServer({
          engine,
          tokenizer: toy.tokenizer,
          contract: toy.files,
          options: { model: 'toy', drainMs: 500, ...options },
        }),
      );
      const { url, port } = await server.listen(0);
      return { engine, server, ...clientOf(url, port) };
    },
  };
}
