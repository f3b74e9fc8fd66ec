// A server with batches in front of the toy engine, for a whole test file.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { BatchStore, type ServerOptions } from '../src/server/index.ts';
import { type Served, toyServers } from './server-fixture.ts';
import type { Toy, ToyFaults } from './server-toy.ts';

export type WithBatches = Served & { folder: string };

export interface BatchServers {
  /** A folder of its own below here. */
  newFolder(): string;
  /** @param more the folder, and most bytes of files */
  serve(
    faults?: ToyFaults,
    options?: ServerOptions,
    more?: { folder?: string; bytes?: number },
  ): Promise<WithBatches>;
}

/** @param make the checkpoint; one without a chat template starts at once */
export function batchServers(make?: () => Promise<Toy>): BatchServers {
  const toys = toyServers(make);
  let root: string;
  let folders = 0;
  beforeAll(async () => {
    root = await mkdtemp(path.join(os.tmpdir(), 'ls-batch-'));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));
  const newFolder = () => path.join(root, String(folders++));
  return {
    newFolder,
    async serve(faults = {}, options = {}, { folder = newFolder(), bytes } = {}) {
      const batches = await BatchStore.open(folder, bytes);
      return { folder, ...(await toys.serve(faults, { ...options, batches })) };
    },
  };
}
