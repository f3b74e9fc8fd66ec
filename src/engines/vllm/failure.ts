// Why a vLLM did not start or died, out of what it printed last.
import type { ServiceExit } from '../../bridge/index.ts';
import { LockstepError } from '../../errors.ts';
import { setUpCommand } from '../../paths.ts';

/** The fix of LS_VLLM_REFUSED: vLLM's own words say what is wrong with the request. */
export const REFUSED_FIX = 'Change or remove the field that vLLM names.';

/** Lines shown of what it printed, where none of them is an error. */
const SHOWN = 15;

/**
 * An error of Lockstep's own plugin by its code and fix (python/lockstep/errors.py adds both to the
 * traceback); else LS_VLLM_START with the last error printed, or the last lines.
 */
export function startFailure({ code, signal, lines }: ServiceExit): LockstepError {
  const printed = lines.map(withoutPrefix).filter((line) => line.trim() !== '');
  const at = printed.findLastIndex((line) => /LockstepError: ./.test(line));
  const [, message] = /LockstepError: (?:\[LS_[A-Z0-9_]+\] )?(.*)$/.exec(printed[at] ?? '') ?? [];
  // The code and the fix are on the line itself or, as the exception's note, on the next.
  const [, own, fix] = /\[(LS_[A-Z0-9_]+)\] ?(.*)$/.exec(printed[at + 1] ?? '') ?? [];
  const named = own ?? /\[(LS_[A-Z0-9_]+)\]/.exec(printed[at] ?? '')?.[1];
  if (message !== undefined && named !== undefined) {
    return new LockstepError(named as `LS_${string}`, message, fix ? { fix } : {});
  }
  const how = signal ?? `exit code ${code}`;
  const reason = printed.findLast(
    // A process that waited for another only points to that one's error.
    (line) => /^[\w.]*(Error|Exception): ./.test(line) && !line.includes('root cause'),
  );
  const last = printed.slice(-SHOWN).join('\n');
  const told = reason ?? (last === '' ? 'It printed nothing.' : `Its last lines:\n${last}`);
  return new LockstepError('LS_VLLM_START', `expected vLLM to run, got ${how}. ${told}`, {
    fix: fixFor(reason ?? last, signal),
  });
}

/** vLLM puts the process and the place before each line. */
function withoutPrefix(line: string): string {
  return line
    .replace(/^\([\w-]+(?: pid=\d+)?\)\s?/, '')
    .replace(/^(?:ERROR|WARNING|INFO) \d\d-\d\d [\d:]+ \[[^\]]*\]\s?/, '');
}

function fixFor(reason: string, signal: string | null): string {
  if (/No module named .?vllm/.test(reason)) return `Install vLLM: ${setUpCommand('vllm')}`;
  if (/desired CPU memory utilization/.test(reason)) {
    return 'Free memory, or let vLLM take a smaller share of it: -- --gpu-memory-utilization 0.5 (vLLM uses this option on CPUs, too).';
  }
  if (/KV cache|max seq len|max_model_len/i.test(reason)) {
    return 'Give it more memory for KV (VLLM_CPU_KVCACHE_SPACE, in GiB, on a CPU), or lower --max-tokens.';
  }
  if (/address already in use/i.test(reason)) return 'Start again: another program took the port.';
  if (signal === 'SIGKILL') return 'SIGKILL often means that memory ran out.';
  return 'lockstep serve --log info shows everything that vLLM prints.';
}
