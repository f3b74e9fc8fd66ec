// lockstep keys: makes, lists and revokes the keys of a server's clients.
import { Command } from 'commander';
import { LockstepError } from '../errors.ts';
// Not by the server's index: a list of keys needs no server.
import { changeKeys, readKeys } from '../server/keys/file.ts';
import { type KeyEntry, type KeyLimits, keyEntry, MOST_WEIGHT } from '../server/keys/format.ts';
import { newKey } from '../server/keys/secret.ts';
import { shellWord } from '../shell-word.ts';
import { parsePositiveInt } from './shared/option-values.ts';
import { paint } from './shared/output.ts';

interface AddOptions {
  requests?: number;
  tokens?: number;
  budget?: number;
  sessions?: number;
  weight?: number;
  metrics?: true;
  json?: true;
}

const RELOAD = 'A running server reads the file again on SIGHUP: kill -HUP PID';

export function keysCommand(): Command {
  const keys = new Command('keys').description(
    'make, list and revoke the keys of clients for lockstep serve --keys',
  );
  keys
    .command('add')
    .description('make a key and show it once; the file keeps only a hash of it')
    .argument('<file>', 'keys file; it is created if it does not exist')
    .argument('<name>', 'who gets the key; the name in logs and metrics')
    .option('--requests <n>', 'maximum requests per minute', parsePositiveInt)
    .option(
      '--tokens <n>',
      'maximum tokens per minute, prompts and answers together',
      parsePositiveInt,
    )
    .option('--budget <n>', 'maximum tokens in 24 hours', parsePositiveInt)
    .option('--sessions <n>', 'maximum generations at once', parsePositiveInt)
    .option(
      '--weight <n>',
      `scheduling weight, relative to other keys: 1 to ${MOST_WEIGHT} (default: 1)`,
      parsePositiveInt,
    )
    .option(
      '--metrics',
      'may read /metrics and /lockstep/engine, which show figures of all clients',
    )
    .option('--json', 'print one JSON object')
    .action(add);
  keys
    .command('list')
    .description('list names, ids and limits; the file does not hold the keys')
    .argument('<file>', 'keys file')
    .option('--json', 'print one JSON object')
    .action(list);
  keys
    .command('revoke')
    .description('remove a key')
    .argument('<file>', 'keys file')
    .argument('<name>', 'whose key')
    .option('--json', 'print one JSON object')
    .action(revoke);
  return keys;
}

async function add(file: string, name: string, options: AddOptions): Promise<void> {
  const { key, id, hash } = await newKey();
  const limits: KeyLimits = {
    ...(options.requests === undefined ? {} : { requestsPerMinute: options.requests }),
    ...(options.tokens === undefined ? {} : { tokensPerMinute: options.tokens }),
    ...(options.budget === undefined ? {} : { tokensPerDay: options.budget }),
    ...(options.sessions === undefined ? {} : { sessions: options.sessions }),
    ...(options.weight === undefined ? {} : { weight: options.weight }),
  };
  const entry: KeyEntry = {
    name,
    id,
    hash,
    created: new Date().toISOString(),
    limits,
    metrics: options.metrics === true,
  };
  const checked = keyEntry.safeParse(entry);
  if (!checked.success) {
    const [issue] = checked.error.issues;
    if (issue?.path[0] === 'limits') {
      const limit = String(issue.path[1]);
      throw new LockstepError(
        'LS_KEYS_LIMIT',
        `expected a ${limit} from 1 to ${MOST_WEIGHT}, got ${limits[limit as keyof KeyLimits]}`,
        {
          fix: `Give --${limit} a smaller number: it is relative to the ${limit} of other keys.`,
          field: limit,
        },
      );
    }
    throw badName(`expected a name for the key, got ${JSON.stringify(name)}`);
  }
  await changeKeys(file, (entries) => {
    if (entries.some((other) => other.name === name)) {
      throw badName(`expected a name that no key in ${file} has, got ${name}`);
    }
    return [...entries, entry];
  });
  if (options.json) return printJson({ name, id, key, limits, metrics: entry.metrics });
  const { bold, dim, yellow } = paint(process.stdout);
  process.stdout.write(
    `${bold(key)}\n${yellow('Keep it')}: it is shown only once. ${file} holds only its hash.\n${dim(RELOAD)}\n`,
  );
}

async function list(file: string, options: { json?: true }): Promise<void> {
  const entries = await readKeys(file);
  if (options.json) {
    return printJson({ keys: entries.map(({ hash: _, ...shown }) => shown) });
  }
  if (entries.length === 0) process.stdout.write(`${file} has no keys\n`);
  const { bold, dim } = paint(process.stdout);
  for (const { name, id, created, limits = {}, metrics } of entries) {
    const told = [...limitsLine(limits), ...(metrics === true ? ['may read metrics'] : [])];
    const line = told.length === 0 ? 'no limits' : told.join(', ');
    process.stdout.write(`${bold(name)}  ls-${id}-…  ${line}  ${dim(created)}\n`);
  }
}

async function revoke(file: string, name: string, options: { json?: true }): Promise<void> {
  await changeKeys(file, (entries) => {
    const left = entries.filter((entry) => entry.name !== name);
    if (left.length < entries.length) return left;
    throw new LockstepError('LS_KEYS_NAME', `expected the name of a key in ${file}, got ${name}`, {
      fix: `List the names: lockstep keys list ${shellWord(file)}`,
      field: 'name',
    });
  });
  if (options.json) return printJson({ revoked: name });
  const { bold, dim } = paint(process.stdout);
  process.stdout.write(`${bold(name)} is revoked\n${dim(RELOAD)}\n`);
}

function limitsLine(limits: KeyLimits): string[] {
  const words: [number | undefined, string][] = [
    [limits.requestsPerMinute, 'requests/min'],
    [limits.tokensPerMinute, 'tokens/min'],
    [limits.tokensPerDay, 'tokens/day'],
    [limits.sessions, 'at once'],
  ];
  const told = words.flatMap(([value, unit]) => (value === undefined ? [] : [`${value} ${unit}`]));
  return limits.weight === undefined ? told : [...told, `weight ${limits.weight}`];
}

function badName(message: string): LockstepError {
  return new LockstepError('LS_KEYS_NAME', message, {
    fix: 'Use 1 to 64 letters, digits, dots, - or _. To use the name of an old key again, revoke that key first.',
    field: 'name',
  });
}

function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
