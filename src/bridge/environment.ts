// What a child process gets of this process's environment: an allow-list, no telemetry, a folder of
// its own for temporary files. Secrets of the parent are not on the list.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pythonRoot } from '../paths.ts';
import { privateFolder } from './private-folder.ts';

/**
 * Variables that switch off what dependencies would report to their makers: onnxruntime (looks up a
 * host and writes to ~/.cache when it is loaded), vLLM, huggingface_hub, ray and what comes with them.
 * One table for both languages.
 */
export const noTelemetry: Readonly<Record<string, string>> = Object.freeze(
  JSON.parse(
    readFileSync(path.join(pythonRoot, 'lockstep', 'no_telemetry.json'), 'utf8'),
  ) as Record<string, string>,
);

/**
 * Set the switches in this process, so that native code sees them too: Node's main thread writes
 * through to the C environment, a worker thread has a copy. Call it before a library is loaded.
 */
export function silenceTelemetry(): void {
  Object.assign(process.env, noTelemetry);
}

const names = new Set([
  ...['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LANGUAGE', 'TZ', 'TERM', 'COLUMNS'],
  ...['TMPDIR', 'TMP', 'TEMP', 'NO_COLOR', 'FORCE_COLOR', 'VIRTUAL_ENV', 'CONDA_PREFIX', 'PWD'],
  ...['LD_LIBRARY_PATH', 'LD_PRELOAD', 'DYLD_LIBRARY_PATH', 'DYLD_FALLBACK_LIBRARY_PATH'],
  // Compilers, for kernels that are compiled when they are first used.
  ...['CC', 'CXX', 'CPATH', 'LIBRARY_PATH', 'MAX_JOBS', 'CFLAGS', 'CXXFLAGS', 'LDFLAGS'],
  ...['CUBLAS_WORKSPACE_CONFIG', 'GLOO_SOCKET_IFNAME', 'TP_SOCKET_IFNAME', 'MASTER_ADDR'],
  ...['MASTER_PORT', 'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'NODE_RANK'],
  ...['GROUP_RANK', 'TOKENIZERS_PARALLELISM', 'RUST_BACKTRACE', 'USE_TF', 'USE_FLAX'],
  // Windows does not start a program without these.
  ...['SYSTEMROOT', 'WINDIR', 'COMSPEC', 'PATHEXT', 'USERPROFILE', 'APPDATA', 'LOCALAPPDATA'],
]);

const prefixes = [
  ...['LC_', 'XDG_', 'PYTHON', 'LOCKSTEP_', 'VLLM_', 'HF_', 'HUGGINGFACE_', 'TRANSFORMERS_'],
  ...['TORCH', 'PYTORCH_', 'TRITON_', 'CUDA', 'NVIDIA_', 'NCCL_', 'CUDNN_', 'CUBLAS_', 'HIP_'],
  ...['ROCM_', 'ROCR_', 'HSA_', 'OMP_', 'GOMP_', 'KMP_', 'MKL_', 'OPENBLAS_', 'BLIS_', 'DNNL_'],
  ...['ONEDNN_', 'ORT_', 'GLOO_', 'RAY_', 'FLASHINFER_', 'NUMEXPR_', 'MPLCONFIG', 'MALLOC_'],
];

/** `HF_TOKEN`, `VLLM_API_KEY`, ...: secrets under a prefix that is on the list. */
const secret = /(^|_)(KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?|AUTH)(_|$)/;

/** The variable in which a user names more variables, with commas between. */
export const passVariable = 'LOCKSTEP_PASS_ENV';

/**
 * The part of an environment that child processes get (docs/bridge.md has the list), with telemetry
 * off and a private folder for temporary files.
 */
export function childEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const more = new Set((env[passVariable] ?? '').split(',').map((name) => name.trim()));
  const kept = Object.entries(env).filter(([name]) => more.has(name) || allowed(name));
  const folder = privateFolder();
  return { ...Object.fromEntries(kept), ...noTelemetry, TMPDIR: folder, TMP: folder, TEMP: folder };
}

function allowed(name: string): boolean {
  const upper = name.toUpperCase();
  if (names.has(upper)) return true;
  return prefixes.some((prefix) => upper.startsWith(prefix)) && !secret.test(upper);
}
