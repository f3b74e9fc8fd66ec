// No dependency reports to its maker: an empty home stays empty, and the tracer sees no connection.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { noTelemetry } from '../src/bridge/environment.ts';
import { builtModule, pythonRoot } from '../src/paths.ts';
import { realPython } from './helpers/python.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const traced = spawnSync('strace', ['-V']).status === 0;
/** What is looked at: without strace nobody sees a connection. */
const seen = traced
  ? 'no file, no look-up, no link followed'
  : 'no file (NOT TRACED: no strace here)';
let root: string;

/** Loads onnxruntime as the engine does: in its worker thread, with a graph that is not there. */
const engine = `
  const { symlinkSync } = await import('node:fs');
  symlinkSync(process.env.HOME + '/precious', process.env.TMPDIR + '/mat-debug-' + process.pid + '.log');
  const { Connection } = await import(${JSON.stringify(builtModule('engines/onnx/connection.js').href)});
  const layout = { headDim: 4 };
  try { await Connection.start({ graph: '/nowhere/model.onnx', threads: 1, prepack: true, layout }); }
  catch (error) { console.log(error.code); }
  await new Promise((resolve) => setTimeout(resolve, 500));`;
const inPython = `
import os
os.symlink(os.environ["HOME"] + "/precious", os.environ["TMPDIR"] + "/mat-debug-%d.log" % os.getpid())
import lockstep, onnxruntime, time
try: onnxruntime.InferenceSession("/nowhere/model.onnx")
except Exception: print("LS_ENGINE_LOAD")
time.sleep(0.5)`;

/** Runs a program in an empty home and a temporary folder with a link under the guessable name. */
function run(name: string, program: readonly string[]) {
  const home = path.join(root, name, 'home');
  const tmp = path.join(root, name, 'tmp');
  mkdirSync(home, { recursive: true });
  mkdirSync(tmp);
  writeFileSync(path.join(home, 'precious'), 'precious');
  const log = path.join(root, name, 'trace');
  const tracer = ['strace', '-f', '-qq', '-o', log, '-e', 'trace=connect,sendto,sendmmsg,openat'];
  const [command, ...args] = traced ? [...tracer, ...program] : program;
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ...{ HOME: home, TMPDIR: tmp, PYTHONPATH: pythonRoot },
  };
  for (const variable of Object.keys(noTelemetry)) delete env[variable];
  // onnxruntime asks for less where it takes the machine for a CI's: here it must not.
  for (const variable of ['CI', 'GITHUB_ACTIONS', 'TF_BUILD']) delete env[variable];
  delete env['XDG_CACHE_HOME'];
  const { stdout } = spawnSync(command as string, args, { env, encoding: 'utf8' });
  return {
    stdout,
    home: readdirSync(home, { recursive: true }),
    tmp: readdirSync(tmp).filter((file) => !file.startsWith('mat-debug')),
    precious: readFileSync(path.join(home, 'precious'), 'utf8'),
    trace: traced ? readFileSync(log, 'utf8').split('\n') : [],
  };
}

/** Attempts to reach any other machine, or a port of this one. */
const connections = ({ trace }: ReturnType<typeof run>): string[] =>
  trace.filter((line) => /connect\(|sendto\(|sendmmsg\(/.test(line) && /AF_INET/.test(line));

function expectSilence(found: ReturnType<typeof run>): void {
  expect(found.stdout.trim()).toBe('LS_ENGINE_LOAD');
  expect(found.home).toEqual(['precious']);
  expect(found.tmp).toEqual([]);
  expect(found.precious).toBe('precious');
  if (!traced) return;
  expect(found.trace.some((line) => line.includes('openat('))).toBe(true);
  expect(connections(found)).toEqual([]);
  expect(found.trace.filter((line) => line.includes('mat-debug'))).toEqual(
    found.trace.filter((line) => line.includes('symlink')),
  );
}

beforeAll(() => {
  root = temporaryFolder('telemetry');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe.skipIf(process.platform !== 'linux')('no telemetry', () => {
  it(`of onnxruntime in the engine: ${seen}`, () => {
    const args = ['--input-type=module', '-e', engine];
    expectSilence(run('node', [process.execPath, ...args]));
  });

  it(`of onnxruntime beside \`import lockstep\`: ${seen}`, () => {
    expectSilence(run('python', [realPython, '-c', inPython]));
  });

  it('but there is some without the switch, where nobody asks for it: the test can fail', () => {
    const bare = inPython.replace('lockstep, onnxruntime', 'onnxruntime');
    const found = run('control', [realPython, '-c', bare]);
    expect(found.precious === 'precious' && found.home.length === 1).toBe(false);
  });

  it.runIf(traced)('and a connection that Python opens is seen', () => {
    const calling = `${inPython}\nimport socket; socket.socket().connect_ex(("127.0.0.1", 9))`;
    const found = run('calling', [realPython, '-c', calling]);
    expect(connections(found)).toEqual([expect.stringContaining('sin_port=htons(9)')]);
  });
});
