// The options of `lockstep serve` that say who may come in, how fast, and how the server ends.
import type { SecureContextOptions } from 'node:tls';
import { type Command, InvalidArgumentError } from 'commander';
import { LockstepError } from '../../errors.ts';
import {
  AuditLog,
  checkProxies,
  DRAIN_MS,
  KeyRing,
  type LockstepServer,
  readTls,
  type ServerOptions,
} from '../../server/index.ts';
import { parsePositiveInt, parseSeconds } from '../shared/option-values.ts';
import { asLockstepError, printWarning } from '../shared/output.ts';
import { usage } from './usage.ts';

export interface AccessOptions {
  apiKey?: string;
  keys?: string;
  audit?: string;
  rate?: number | 'off';
  trustProxy?: string[];
  tlsCert?: string;
  tlsKey?: string;
  preDrain: number;
  drain: number;
  exitWhenLost?: boolean;
}

export interface Access {
  /** Whether a client needs a key. */
  needsKey: boolean;
  server: ServerOptions;
  /**
   * Read keys and certificate again on SIGHUP, and open the audit log again.
   *
   * @param models reads the models again, too, and gives what the audit log is to say
   */
  follow(server: LockstepServer, models: (() => Promise<object>) | null): void;
  close(): void;
}

export function addAccessOptions(command: Command): Command {
  return command
    .option(
      '--api-key <variable>',
      'environment variable that holds the one key that clients must send',
    )
    .option('--keys <file>', 'keys of clients, with limits (lockstep keys add); SIGHUP reloads it')
    .option(
      '--audit <file>',
      'one JSON line per request: key, route, token counts. Never prompts or answers.',
    )
    .option(
      '--rate <n>',
      'requests per minute from one key or address; off sets no limit (default: off on loopback and with --keys, else 600)',
      rate,
    )
    .option(
      '--trust-proxy <address...>',
      'proxies whose X-Forwarded-For header gives the client address: addresses, networks, loopback',
    )
    .option('--tls-cert <file>', 'certificate chain in PEM; SIGHUP reloads it')
    .option('--tls-key <file>', 'its private key in PEM')
    .option(
      '--pre-drain <seconds>',
      'at shutdown: seconds to keep listening while /health/ready returns 503',
      parseSeconds,
      0,
    )
    .option(
      '--drain <seconds>',
      'then: seconds that running answers have to finish',
      parseSeconds,
      DRAIN_MS / 1000,
    )
    .option(
      '--exit-when-lost',
      'onnx, torch: end with exit code 1 when the engine has ended, so that systemd or Kubernetes starts the server again; with several models, when the last has',
    );
}

/** Not null: Commander takes that for a missing value. */
function rate(text: string): number | 'off' {
  if (text === 'off') return text;
  try {
    return parsePositiveInt(text);
  } catch {
    throw new InvalidArgumentError('expected a whole number of at least 1, or off.');
  }
}

/**
 * Read what the options name.
 *
 * @param always whether SIGHUP has something to read in any case
 * @throws LS_USAGE, LS_SERVE_KEY, LS_SERVE_PROXY, LS_KEYS_FILE, LS_KEYS_MODE, LS_KEYS_FORMAT, LS_SERVE_TLS, LS_AUDIT_FILE
 */
export async function openAccess(
  options: AccessOptions,
  say: (line: string) => void,
  always: boolean,
): Promise<Access> {
  // The server would find it once its engines are open, after minutes.
  checkProxies(options.trustProxy ?? []);
  const apiKey = keyFrom(options.apiKey);
  if (apiKey !== null && options.keys !== undefined) {
    throw usage('keys', 'expected --api-key or --keys, got both', 'Add the key to the file.');
  }
  const keys = options.keys === undefined ? null : await KeyRing.open(options.keys);
  if (keys?.size === 0) {
    const message = `${keys.file} contains no keys. Every request is refused until you add one and send SIGHUP.`;
    printWarning({ code: 'LS_KEYS_EMPTY', message });
  }
  const tls = await tlsOf(options);
  const audit = options.audit === undefined ? null : new AuditLog(options.audit, auditTrouble);
  audit?.write('start', { keys: keys?.size ?? null });
  let turn = Promise.resolve();
  let followed: LockstepServer | null = null;
  let readModels: (() => void) | null = null;
  /** SIGHUP came before the server was there. */
  let early = false;
  const hangUp = () => {
    const server = followed;
    if (server === null) early = true;
    else {
      const again = () => readAgain(server, options, keys, audit, say);
      turn = turn.then(again).catch((error: unknown) => printWarning(asLockstepError(error)));
    }
    readModels?.();
  };
  // Where nothing can be read again, a terminal that hangs up ends the server as it ends any program.
  if (always || keys !== null || tls !== null || audit !== null) process.on('SIGHUP', hangUp);
  return {
    needsKey: apiKey !== null || keys !== null,
    server: {
      apiKey,
      keys,
      audit,
      tls,
      ...(options.rate === undefined
        ? {}
        : { requestsPerMinute: options.rate === 'off' ? null : options.rate }),
      trustProxy: options.trustProxy ?? [],
      preDrainMs: options.preDrain * 1000,
      drainMs: options.drain * 1000,
    },
    follow(server, models) {
      followed = server;
      readModels = models && oneAtATime(() => modelsAgain(server, models, audit));
      if (early) hangUp();
    },
    close() {
      process.off('SIGHUP', hangUp);
      audit?.write('stop', {});
      audit?.close();
    },
  };
}

function auditTrouble(error: Error): void {
  if (error instanceof LockstepError) {
    const { code, message } = error;
    printWarning({ code, message: `${message}; lines go into the file that is open` });
    return;
  }
  const message = `the audit log could not be written: ${error.message}; its lines wait in memory`;
  printWarning({ code: 'LS_AUDIT_WRITE', message });
}

/** Models take their time to start; keys do not wait for them. */
async function modelsAgain(
  server: LockstepServer,
  models: () => Promise<object>,
  audit: AuditLog | null,
): Promise<void> {
  try {
    const change = await models();
    server.reloaded('models', true);
    audit?.write('models', change);
  } catch (error) {
    const { code, message } = asLockstepError(error);
    // The server ends.
    if (code === 'LS_CANCELLED') return;
    server.reloaded('models', false);
    printWarning({ code, message: `${message}; the previous models stay in use` });
    audit?.write('models', { code });
  }
}

/** While a call runs, all further ones are one call after it. */
function oneAtATime(act: () => Promise<void>): () => void {
  let running = false;
  let again = false;
  const run = async (): Promise<void> => {
    running = true;
    do {
      again = false;
      await act();
    } while (again);
    running = false;
  };
  return () => {
    if (running) again = true;
    else void run();
  };
}

/** Read each part by itself. A part that cannot be read keeps its previous state, with a warning. */
async function readAgain(
  server: LockstepServer,
  options: AccessOptions,
  keys: KeyRing | null,
  audit: AuditLog | null,
  say: (line: string) => void,
): Promise<void> {
  if (audit !== null) server.reloaded('audit', audit.reopen());
  const warn = (what: 'keys' | 'tls', error: unknown, kept: string): string => {
    const { code, message } = asLockstepError(error);
    server.reloaded(what, false);
    printWarning({ code, message: `${message}; ${kept} stay in use` });
    return code;
  };
  if (keys !== null) {
    try {
      const change = await keys.reload();
      server.reloaded('keys', true);
      audit?.write('keys', change);
      const { added, removed } = change;
      say(`keys: ${change.keys} (${added.length} added, ${removed.length} removed)`);
    } catch (error) {
      audit?.write('keys', { code: warn('keys', error, 'the previous keys') });
    }
  }
  try {
    const tls = await tlsOf(options);
    if (tls === null) return;
    server.setTls(tls);
    server.reloaded('tls', true);
    say('TLS certificate reloaded');
  } catch (error) {
    warn('tls', error, 'the certificate and key');
  }
}

async function tlsOf({ tlsCert, tlsKey }: AccessOptions): Promise<SecureContextOptions | null> {
  if (tlsCert === undefined && tlsKey === undefined) return null;
  if (tlsCert === undefined || tlsKey === undefined) {
    const there = tlsCert === undefined ? 'tls-key' : 'tls-cert';
    throw usage(there, `expected --tls-cert and --tls-key, got only --${there}`, 'Give both.');
  }
  return readTls({ cert: tlsCert, key: tlsKey });
}

/** The key itself never stands on the command line, where every user of the machine can read it. */
function keyFrom(variable: string | undefined): string | null {
  if (variable === undefined) return null;
  const key = process.env[variable];
  // Nothing that is started from here may find it, whatever its name.
  delete process.env[variable];
  if (key !== undefined && key !== '') return key;
  throw new LockstepError('LS_SERVE_KEY', `expected a key in $${variable}, got none`, {
    fix: `--api-key takes the name of an environment variable: ${variable}=… lockstep serve …`,
    field: 'api-key',
  });
}
