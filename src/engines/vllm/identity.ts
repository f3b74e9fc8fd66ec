// Whether a vLLM may be trusted with a contract: every engine process of it has to say so.

import { z } from 'zod';
import { LockstepError } from '../../errors.ts';
import { parseJson } from '../../json.ts';
import { setUpCommand } from '../../paths.ts';
import { probeLine } from '../probe.ts';

/** Where the plugin answers, and how it is switched on: an endpoint plugin loads only when named. */
export const IDENTITY_PATH = '/lockstep';
export const PLUGIN_ENVIRONMENT = { VLLM_PLUGINS: 'lockstep' } as const;

const probe = z.object({
  status: z.enum(['passed', 'skipped', 'absent', 'short']),
  tokens: z.number(),
  boundaries: z.number(),
  positions: z.number(),
  off: z.number().nullable(),
  bound: z.number().nullable(),
  kind: z.enum(['largest', 'mean']).nullable(),
  milliseconds: z.number(),
});

const identity = z.object({
  digest: z.string().nullable(),
  version: z.string().nullable(),
  engines: z.array(
    z.object({ rank: z.number(), digest: z.string().nullable(), architecture: z.string() }),
  ),
  /** Version of vLLM. */
  vllm: z.string().nullish(),
  /** Its model runner: V1 or V2. */
  runner: z.string().nullish(),
  probe: probe.nullish(),
  /** Adapters that may be asked for: the SHA-256 of each one's files, what became of its probe. */
  adapters: z.array(z.object({ name: z.string(), sha256: z.string(), probe })).default([]),
});
export type Identity = z.infer<typeof identity>;

const models = z.object({
  data: z.array(z.object({ id: z.string(), max_model_len: z.number().nullish() })).min(1),
});

/** One HTTP answer, read whole. */
export type Get = (path: string) => Promise<{ status: number; text: string }>;

export interface Upstream {
  identity: Identity;
  /** Most tokens of a sequence. */
  maxTokens: number | null;
}

/**
 * Ask a vLLM what it serves. Nothing but the contract's digest from every engine process will do.
 *
 * @param adapters SHA-256 of each adapter that is to be served, by its name
 * @throws LS_VLLM_PLUGIN the plugin is not there; LS_VLLM_STOCK a stock architecture;
 *   LS_VLLM_DIGEST another contract; LS_VLLM_ADAPTER an adapter that is missing, or another one;
 *   LS_VLLM_IDENTITY an engine process that does not answer;
 *   LS_VLLM_PROTOCOL an answer that is none
 */
export async function identify(
  get: Get,
  digest: string,
  adapters: ReadonlyMap<string, string> = new Map(),
): Promise<Upstream> {
  const answer = await get(IDENTITY_PATH);
  if (answer.status === 404 || answer.status === 401) {
    throw new LockstepError(
      'LS_VLLM_PLUGIN',
      `expected Lockstep's plugin in vLLM, got HTTP ${answer.status} from ${IDENTITY_PATH}`,
      {
        fix: `Install lockstep in vLLM's environment (${setUpCommand('vllm')}) and start it with VLLM_PLUGINS=lockstep.`,
      },
    );
  }
  if (answer.status !== 200) {
    throw new LockstepError(
      'LS_VLLM_IDENTITY',
      `expected every engine process to report its digest, got HTTP ${answer.status}${said(answer.text)}`,
      { fix: 'Read the log of vLLM: an engine process may still be starting, or may have exited.' },
    );
  }
  const told = parse(identity, answer.text, IDENTITY_PATH);
  checkEngines(told, digest);
  checkAdapters(told, adapters);
  const listed = await get('/v1/models');
  if (listed.status !== 200) {
    throw new LockstepError(
      'LS_VLLM_PROTOCOL',
      `expected the list of models, got HTTP ${listed.status} from /v1/models`,
      { fix: 'If vLLM asks for a key, name its variable: --upstream-key VARIABLE' },
    );
  }
  const list = parse(models, listed.text, '/v1/models');
  return { identity: told, maxTokens: list.data[0]?.max_model_len ?? null };
}

function checkEngines(told: Identity, digest: string): void {
  const stock = told.engines.find((engine) => !engine.architecture.startsWith('Segmented'));
  if (stock !== undefined) {
    throw new LockstepError(
      'LS_VLLM_STOCK',
      `expected a segmented architecture in every engine process, got ${stock.architecture} in rank ${stock.rank}`,
      { fix: 'Serve a checkpoint that carries a contract: lockstep attach, lockstep train.' },
    );
  }
  const other = told.engines.find((engine) => engine.digest !== digest);
  if (told.engines.length === 0 || other !== undefined || told.digest !== digest) {
    const got =
      told.engines.length === 0 ? 'no engine process' : (other?.digest ?? told.digest ?? 'none');
    throw new LockstepError(
      'LS_VLLM_DIGEST',
      `expected every engine process under contract ${digest}, got ${got}${other === undefined ? '' : ` in rank ${other.rank}`}`,
      { fix: 'Serve both from the same checkpoint folder.' },
    );
  }
}

function checkAdapters(told: Identity, adapters: ReadonlyMap<string, string>): void {
  for (const [name, sha256] of adapters) {
    const found = told.adapters.find((one) => one.name === name);
    if (found?.sha256 === sha256) continue;
    throw new LockstepError(
      'LS_VLLM_ADAPTER',
      `expected the adapter ${name} with SHA-256 ${sha256} in vLLM, got ${found?.sha256 ?? 'none'}`,
      {
        fix: `Start vLLM with --enable-lora --lora-modules ${name}=DIR, DIR being the folder named here.`,
        field: 'adapter',
      },
    );
  }
}

/** What a vLLM is and what became of its probe, in a line for people. */
export function identityLine(told: Identity | null): string {
  const probe =
    told?.probe == null ? 'it does not report the result of a probe' : probeLine(told.probe);
  const adapters = (told?.adapters ?? []).map((one) => `; ${one.name}: ${probeLine(one.probe)}`);
  return `version ${told?.vllm ?? 'unknown'}, model runner ${told?.runner ?? 'unknown'}; ${probe}${adapters.join('')}`;
}

function parse<T>(schema: z.ZodType<T>, text: string, path: string): T {
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new LockstepError(
    'LS_VLLM_PROTOCOL',
    `expected vLLM's answer from ${path}, got ${JSON.stringify(text.slice(0, 80))}`,
    { fix: 'Check that the address is that of vLLM 0.32 itself.' },
  );
}

function said(text: string): string {
  const message = /"message"\s*:\s*"([^"]{1,300})/.exec(text)?.[1];
  return message === undefined ? '' : `: ${message}`;
}
