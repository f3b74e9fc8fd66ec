// The files of deploy/ as far as they can be tried without a cluster, a registry or an init system.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython } from '../src/bridge/index.ts';
import { packageRoot } from '../src/paths.ts';
import { type Commands, lockstepCommands } from './docs/commands.ts';
import { makeCertificate } from './helpers/certificate.ts';
import { argumentsOf, copiesOf, type Stage, stagesOf } from './helpers/containerfile.ts';
import { readOpenApi } from './malformed/openapi.ts';
import type { Any } from './server-client.ts';

const file = (name: string) => path.join(packageRoot, 'deploy', name);
const text = (name: string) => readFileSync(file(name), 'utf8');
let commands: Commands;
let folder: string;

beforeAll(async () => {
  commands = lockstepCommands();
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-deploy-'));
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Options in `args` that `lockstep serve` does not have. */
function unknown(args: readonly string[]): string[] {
  return args.filter((arg) => arg.startsWith('--') && !commands.get('serve')?.flags.has(arg));
}

/** The value behind an option. */
function value(args: readonly string[], option: string): string | undefined {
  return args[args.indexOf(option) + 1];
}

/** Seconds that `--pre-drain` and `--drain` may take. */
function seconds(args: readonly string[]): number {
  return Number(value(args, '--pre-drain')) + Number(value(args, '--drain'));
}

describe('lockstep.service', () => {
  const unit = text('lockstep.service').replace(/\\\n/g, ' ');
  const all = (name: string) =>
    [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, found]) => found as string);
  const args = (all('ExecStart')[0] as string).split(/\s+/);

  test('starts the server with options that it has, and gives it time to end', () => {
    expect(args.slice(1, 3)).toEqual(['/opt/lockstep/dist/cli/main.js', 'serve']);
    expect(unknown(args)).toEqual([]);
    expect(unknown(['--none'])).toEqual(['--none']);
    expect(Number(all('TimeoutStopSec')[0])).toBeGreaterThan(seconds(args));
  });

  test('vllm.conf starts it with vLLM, with the same access options', () => {
    const dropIn = text('vllm.conf').replace(/\\\n/g, ' ');
    const starts = [...dropIn.matchAll(/^ExecStart=(.*)$/gm)].map(([, found]) => found as string);
    // The empty one takes away the unit's own.
    expect(starts[0]).toBe('');
    const own = (starts[1] as string).split(/\s+/);
    expect(unknown(own)).toEqual([]);
    expect(value(own, '--engine')).toBe('vllm');
    for (const option of [
      '--port',
      '--keys',
      '--tls-cert',
      '--tls-key',
      '--pre-drain',
      '--drain',
    ]) {
      expect(value(own, option)).toBe(value(args, option));
    }
  });

  test('both take more options from one variable, which a drop-in sets', () => {
    const dropIn = text('vllm.conf').replace(/\\\n/g, ' ');
    expect(args.at(-1)).toBe('$SERVE_OPTIONS');
    expect(dropIn).toMatch(/^ExecStart=.* \$SERVE_OPTIONS$/m);
    expect(all('Environment')).toContain('SERVE_OPTIONS=');
    // The examples, in the files and on the page.
    const page = readFileSync(path.join(packageRoot, 'docs/operations.md'), 'utf8');
    const set = /Environment="SERVE_OPTIONS=([^"]*)"/g;
    const examples = [unit, dropIn, page].flatMap((from) =>
      [...from.matchAll(set)].map(([, found]) => found as string),
    );
    expect(examples.length).toBeGreaterThan(3);
    const own = examples.flatMap((one) => (one.split(/(?:^| )-- /)[0] as string).split(' '));
    expect(unknown(own)).toEqual([]);
  });

  test('its folders are closed to other users of the machine', () => {
    const made = ['State', 'Cache', 'Logs', 'Configuration'];
    expect(made.map((one) => all(`${one}Directory`))).toEqual(made.map(() => ['lockstep']));
    expect(made.map((one) => all(`${one}DirectoryMode`))).toEqual(made.map(() => ['0750']));
  });

  test('logrotate.conf moves its audit log, and has it opened again', () => {
    const [, log, rules] = /^(\/\S+) \{\n([^}]*)\}$/m.exec(text('logrotate.conf')) ?? [];
    expect(log).toBe(value(args, '--audit'));
    expect(rules).toContain(`su ${all('User')[0]} ${all('Group')[0]}\n`);
    // The server makes the file itself, closed to others, and writes to the moved one until then.
    expect(rules).toMatch(/^ *nocreate$/m);
    expect(rules).toMatch(/^ *delaycompress$/m);
    expect(rules).toMatch(/postrotate\n *systemctl try-reload-or-restart lockstep\n *endscript/);
    expect(all('ExecReload')).toEqual(['/bin/kill -HUP $MAINPID']);
  });

  test('Prometheus asks the port that it listens on, as it speaks there', () => {
    const page = readFileSync(path.join(packageRoot, 'docs/operations.md'), 'utf8');
    expect(args).toContain('--tls-cert');
    expect(page).toMatch(/scrape_configs:[^`]*scheme: https/);
    expect(page).toContain(`targets: ["NAME:${value(args, '--port')}"]`);
  });

  const analyze = spawnSync('systemd-analyze', ['--version']).status === 0;
  test.skipIf(!analyze)('systemd finds nothing wrong with it, nor with vllm.conf', async () => {
    // The program's path is another one on each machine.
    const here = (unit: string) => unit.replaceAll('/usr/bin/node', process.execPath);
    const units = path.join(folder, 'units');
    const dropIns = path.join(units, 'lockstep.service.d');
    await mkdir(dropIns, { recursive: true });
    const right = path.join(units, 'lockstep.service');
    await writeFile(right, here(unit));
    const check = (name: string) =>
      spawnSync('systemd-analyze', ['verify', '--man=no', name], { encoding: 'utf8' });
    // It names the units of the machine too, which are not ours.
    const told = () =>
      check(right)
        .stderr.split('\n')
        .filter((line) => line.includes('lockstep'));
    expect(told()).toEqual([]);
    const dropIn = path.join(dropIns, 'vllm.conf');
    await writeFile(dropIn, here(text('vllm.conf')));
    expect(told()).toEqual([]);
    await writeFile(dropIn, here(text('vllm.conf')).replace('ExecStart=\n', ''));
    expect(told().join('\n')).toContain('ExecStart');
    const wrong = path.join(folder, 'lockstep-wrong.service');
    await writeFile(wrong, here(unit).replace('Restart=on-failure', 'Restart=some-times'));
    expect(check(wrong).stderr).toContain('some-times');
  });
});

describe.each(['Containerfile.cpu', 'Containerfile.cuda'])('%s', (name) => {
  const stages = stagesOf(name);
  const last = stages.at(-1) as Stage;
  const of = (word: string) => argumentsOf(last, word);
  /** The program of its health check. */
  const health = (): string => {
    const [, command = ''] = /CMD (\[.*\])$/.exec(of('HEALTHCHECK')[0] ?? '') ?? [];
    return (JSON.parse(command) as string[])[2] as string;
  };

  test('copies files that there are, and builds in a stage that is left behind', () => {
    const copied = stages
      .flatMap(copiesOf)
      .filter(({ fromBuild }) => !fromBuild)
      .flatMap(({ sources }) => sources);
    expect(copied.filter((one) => !existsSync(path.join(packageRoot, one)))).toEqual([]);
    expect(stages.map(({ from }) => / AS (\w+)$/.exec(from)?.[1])).toEqual(['build', undefined]);
    const known = 'ARG CMD COPY ENTRYPOINT ENV EXPOSE HEALTHCHECK RUN STOPSIGNAL USER WORKDIR';
    expect(last.instructions.filter(([word]) => !known.split(' ').includes(word))).toEqual([]);
  });

  test('does not run as root, and ends by the signal that the server takes', () => {
    expect(of('USER')).toHaveLength(1);
    expect(of('USER')[0]).not.toMatch(/^(root|0)\b/);
    expect(of('STOPSIGNAL')).toEqual(['SIGTERM']);
  });

  test('starts the server on the port that it names', () => {
    const entry = JSON.parse(of('ENTRYPOINT')[0] as string) as string[];
    const args = JSON.parse(of('CMD')[0] as string) as string[];
    expect(entry).toEqual(['node', '/opt/lockstep/dist/cli/main.js', 'serve']);
    expect(unknown(args)).toEqual([]);
    expect(of('EXPOSE')).toEqual([value(args, '--port')]);
    // It listens on every address of the container, so only to who has a key.
    expect(value(args, '--host')).toBe('0.0.0.0');
    expect(value(args, '--keys')).toBe('/etc/lockstep/keys.json');
    expect(health()).toContain(`:${value(args, '--port')}/health/ready`);
  });

  test('asks whether the server is ready, with and without TLS', async () => {
    const cert = path.join(folder, `${name}.crt`);
    const key = path.join(folder, `${name}.key`);
    await makeCertificate('localhost', cert, key);
    let status = 200;
    const answer: RequestListener = ({ url }, response) => {
      response.writeHead(url === '/health/ready' ? status : 404).end();
    };
    const tls = { cert: readFileSync(cert), key: readFileSync(key) };
    for (const server of [createHttpServer(answer), createHttpsServer(tls, answer)]) {
      await once(server.listen(0, '127.0.0.1'), 'listening');
      const { port } = server.address() as AddressInfo;
      const program = health().replace(':8080/', `:${port}/`);
      const ask = async (): Promise<number | null> => {
        const child = spawn(process.execPath, ['-e', program], { stdio: 'ignore' });
        const [code] = (await once(child, 'exit')) as [number | null];
        return code;
      };
      status = 200;
      expect(await ask()).toBe(0);
      status = 503;
      expect(await ask()).toBe(1);
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
      expect(await ask()).toBe(1);
    }
  });
});

describe('kubernetes.yaml', () => {
  let documents: Any[];
  beforeAll(async () => {
    const { executable } = await findPython({ modules: ['yaml'] });
    const code = 'import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))';
    const input = text('kubernetes.yaml');
    documents = JSON.parse(execFileSync(executable, ['-c', code], { input, encoding: 'utf8' }));
  });
  const kind = (name: string): Any => documents.find((one) => one.kind === name);

  test('fits the schemas of Kubernetes', async () => {
    const { executable } = await findPython({ modules: ['jsonschema', 'referencing'] });
    const setup = pathToFileURL(path.join(packageRoot, 'scripts/setup/schemas.mjs')).href;
    const { schemasFolder: schemas } = (await import(setup)) as { schemasFolder: string };
    const judge = (what: Any[]): string[] =>
      JSON.parse(
        execFileSync(
          executable,
          [path.join(import.meta.dirname, 'python/judge_kubernetes.py'), schemas],
          {
            input: JSON.stringify(what),
            encoding: 'utf8',
          },
        ),
      );
    expect(judge(documents)).toEqual([]);
    const wrong = structuredClone(documents);
    const { spec } = wrong.find((one) => one.kind === 'Deployment').spec.template;
    spec.terminationGracePeriod = 90;
    spec.containers[0].ports[0].containerPort = '8080';
    const found = judge(wrong).join('\n');
    expect(found).toContain('terminationGracePeriod');
    expect(found).toContain('containerPort');
  });

  test('has a Deployment, a Service and a budget that select the same pods', () => {
    expect(documents.map((one) => `${one.apiVersion} ${one.kind}`)).toEqual([
      'apps/v1 Deployment',
      'v1 Service',
      'policy/v1 PodDisruptionBudget',
    ]);
    const { labels } = kind('Deployment').spec.template.metadata;
    expect(kind('Deployment').spec.selector.matchLabels).toEqual(labels);
    expect(kind('Service').spec.selector).toEqual(labels);
    expect(kind('PodDisruptionBudget').spec.selector.matchLabels).toEqual(labels);
  });

  test('probes routes that there are, on the port that the server listens on', () => {
    const [container] = kind('Deployment').spec.template.spec.containers;
    const [port] = container.ports;
    expect(unknown(container.args)).toEqual([]);
    expect(String(port.containerPort)).toBe(value(container.args, '--port'));
    const { paths } = readOpenApi();
    for (const name of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
      const { path: where, port: on } = container[name].httpGet;
      expect(Object.keys(paths)).toContain(where);
      expect(on).toBe(port.name);
    }
    expect(container.readinessProbe.httpGet.path).toBe('/health/ready');
    // A server that is busy or closing is not killed for it.
    expect(container.livenessProbe.httpGet.path).toBe('/health/live');
    expect(kind('Service').spec.ports[0].targetPort).toBe(port.name);
  });

  test('leaves the server time to end, and balancers time to see that it does', () => {
    const { spec } = kind('Deployment').spec.template;
    const [{ args, readinessProbe: probe }] = spec.containers;
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(seconds(args));
    const noticed = probe.periodSeconds * probe.failureThreshold;
    expect(Number(value(args, '--pre-drain'))).toBeGreaterThanOrEqual(noticed);
  });

  test('runs without root, mounts what it names, and opens its keys to nobody else', () => {
    const { spec } = kind('Deployment').spec.template;
    const [container] = spec.containers;
    expect(spec.securityContext.runAsNonRoot).toBe(true);
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const names = spec.volumes.map((one: Any) => one.name);
    expect(container.volumeMounts.map((one: Any) => one.name).sort()).toEqual(names.sort());
    const keys = spec.volumes.find((one: Any) => one.secret !== undefined);
    // As `lockstep serve --keys` judges it: not writable by the group, nothing for others.
    expect(keys.secret.defaultMode & 0o027).toBe(0);
    const mount = container.volumeMounts.find((one: Any) => one.name === 'keys');
    expect(value(container.args, '--keys')).toMatch(new RegExp(`^${mount.mountPath}/`));
  });
});
