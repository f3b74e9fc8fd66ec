// One private copy of pythonia a session, with the guards that pythonia itself lacks.
//
// pythonia 1.2.6 starts `process.env.PYTHON_BIN` while it is being required, as a singleton with no
// options. Evaluating its files afresh, with the environment set for just that synchronous moment,
// gives every session an interpreter, an environment and a lifetime of its own.
import type { ChildProcess } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';

const require = createRequire(import.meta.url);

/** A started interpreter under pythonia. */
export interface Pythonia {
  process: ChildProcess;
  /** Import a Python module; its functions are called by name. */
  import(module: string): Promise<Record<string, (argument: string) => Promise<unknown>>>;
  /** Stop pythonia's timer; must follow the process's death at once. */
  stop(): void;
  /** While idle, neither the process nor the channel may keep Node alive. */
  keepAlive(busy: boolean): void;
}

interface Internals {
  python(module: string): Promise<Record<string, (argument: string) => Promise<unknown>>>;
  com: { proc: ChildProcess | null };
}

interface InternalBridge {
  loop: NodeJS.Timeout;
  end(): void;
}

/**
 * Start an interpreter.
 *
 * Never throws for a bad interpreter: `onError` gets it (pythonia leaves the child's 'error' event
 * without a listener, which would end Node).
 */
export function startPythonia(
  executable: string,
  env: NodeJS.ProcessEnv,
  onError: (error: Error) => void,
): Pythonia {
  const entry = require.resolve('pythonia');
  const folder = path.dirname(entry) + path.sep;
  const mine = (): string[] => Object.keys(require.cache).filter((id) => id.startsWith(folder));
  const globals = globalThis as { __pythonBridge?: InternalBridge };
  const previous = globals.__pythonBridge;
  const saved = { ...process.env };
  for (const id of mine()) delete require.cache[id];
  let internals: Internals;
  try {
    replaceEnvironment({
      ...env,
      PYTHON_BIN: executable,
      // 0: no timeouts of pythonia's own; they would hold Node for 100 s after a death.
      REQ_TIMEOUT: '0',
      // pythonia prints its traffic to stdout when DEBUG is set.
      DEBUG: '',
    });
    internals = require(entry) as Internals;
  } finally {
    replaceEnvironment(saved);
    for (const id of mine()) delete require.cache[id];
  }
  const bridge = globals.__pythonBridge as InternalBridge;
  if (previous === undefined) delete globals.__pythonBridge;
  else globals.__pythonBridge = previous;
  const child = internals.com.proc as ChildProcess;
  child.on('error', onError);
  bridge.loop.unref();
  return {
    process: child,
    import: (module) => internals.python(module),
    stop: () => bridge.end(),
    keepAlive(busy) {
      const channel = child.channel as { ref(): void; unref(): void } | null | undefined;
      if (busy) {
        child.ref();
        channel?.ref();
      } else {
        child.unref();
        channel?.unref();
      }
    },
  };
}

function replaceEnvironment(env: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name];
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}
