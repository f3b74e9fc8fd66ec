// The adapters that `lockstep serve --adapter NAME=DIR` names: read, and refused before vLLM starts.
import type { Contract } from '../../contract/schema.ts';
import { LockstepError } from '../../errors.ts';
import { checkAdapter, readAdapter } from '../../weights/adapter.ts';
import type { NamedAdapter } from './flags.ts';

/** A name in `model` of a request; the plugin's own metrics begin with `lockstep:`. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/;

/**
 * The parts of `NAME=DIR`, before anything is read.
 *
 * @throws LS_USAGE, LS_ADAPTER_NAME
 */
export function adapterFolders(given: readonly string[]): { name: string; dir: string }[] {
  const found: { name: string; dir: string }[] = [];
  for (const text of given) {
    const at = text.indexOf('=');
    const [name, dir] = [text.slice(0, at), text.slice(at + 1)];
    if (at < 1 || dir === '') {
      throw new LockstepError('LS_USAGE', `expected --adapter NAME=DIR, got ${text}`, {
        fix: 'As in: --adapter law=runs/law/adapter',
        field: 'adapter',
      });
    }
    if (!NAME.test(name)) {
      throw naming(`expected letters, digits and . _ / - in the name of an adapter, got ${name}`);
    }
    if (found.some((one) => one.name === name)) throw twice(name);
    found.push({ name, dir });
  }
  return found;
}

/**
 * @param given `NAME=DIR` each
 * @param model the base's name in requests
 * @throws LS_USAGE, LS_ADAPTER_NAME, LS_ADAPTER_FILE, LS_ADAPTER_CONTRACT, LS_ADAPTER_BASE, LS_ADAPTER_RANK
 */
export async function openAdapters(
  given: readonly string[],
  model: string,
  contract: Contract,
): Promise<NamedAdapter[]> {
  const found: NamedAdapter[] = [];
  for (const { name, dir } of adapterFolders(given)) {
    if (name === model) throw twice(name);
    const adapter = await readAdapter(dir);
    checkAdapter(adapter, contract);
    found.push({ name, ...adapter });
  }
  return found;
}

function twice(name: string): LockstepError {
  return naming(`expected each model and adapter under a name of its own, got ${name} twice`);
}

function naming(message: string): LockstepError {
  return new LockstepError('LS_ADAPTER_NAME', message, {
    fix: 'Requests choose by name: give each --adapter another, or the base one with --model.',
    field: 'adapter',
  });
}
