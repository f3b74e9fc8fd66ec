import { readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { environmentOf } from '../../test/processes.ts';
import { childEnvironment, noTelemetry, passVariable } from './environment.ts';
import { runJob } from './job.ts';
import { privateFolder } from './private-folder.ts';
import { findPython } from './python.ts';
import { startService } from './service.ts';
import { PythonSession } from './session.ts';

const SECRETS = {
  SERVER_KEY: 'sk-server',
  AWS_SECRET_ACCESS_KEY: 'aws',
  HF_TOKEN: 'hf',
  VLLM_API_KEY: 'vllm',
  LOCKSTEP_API_KEY: 'lockstep',
  DATABASE_URL: 'postgres://user:password@host',
};

function expectClean(found: Record<string, string>): void {
  expect(Object.keys(found).filter((name) => name in SECRETS)).toEqual([]);
  expect(found).toMatchObject(noTelemetry);
  expect(found['TMPDIR']).toBe(privateFolder());
  expect(found['PATH']).toBe(process.env['PATH']);
}

describe('childEnvironment', () => {
  it('keeps what programs need and leaves out every secret', () => {
    const env = { ...SECRETS, PATH: '/bin', LC_ALL: 'C', CUDA_VISIBLE_DEVICES: '1', OTHER: 'x' };
    const found = childEnvironment({ ...env, TOKENIZERS_PARALLELISM: 'false' });
    expect(found).toMatchObject({ PATH: '/bin', LC_ALL: 'C', CUDA_VISIBLE_DEVICES: '1' });
    expect(found['TOKENIZERS_PARALLELISM']).toBe('false');
    expect(Object.keys(found).filter((name) => name in SECRETS || name === 'OTHER')).toEqual([]);
  });

  it('passes more where the user names it', () => {
    const env = { HF_TOKEN: 'hf', OTHER: 'x', THIRD: 'y', [passVariable]: 'HF_TOKEN, OTHER' };
    expect(childEnvironment(env)).toMatchObject({ HF_TOKEN: 'hf', OTHER: 'x' });
    expect(childEnvironment(env)).not.toHaveProperty('THIRD');
  });

  it('gives children a folder for temporary files that nobody else can enter', () => {
    const folder = privateFolder();
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(childEnvironment({ TMPDIR: '/elsewhere' })['TMPDIR']).toBe(folder);
  });
});

describe.skipIf(process.platform !== 'linux')('real children', () => {
  const before = { ...process.env };
  afterEach(() => {
    for (const name of Object.keys(SECRETS)) {
      if (name in before) process.env[name] = before[name];
      else delete process.env[name];
    }
  });

  it('a session, a job and a service get no secret of this process', async () => {
    const python = await findPython();
    Object.assign(process.env, SECRETS);
    const session = await PythonSession.open({ python });
    try {
      expectClean(environmentOf(session.pid as number));
    } finally {
      await session.close();
    }
    const dump =
      'import os, json; open(os.environ["TMPDIR"] + "/env.json", "w").write(json.dumps(dict(os.environ)))';
    const seen = (): Record<string, string> =>
      JSON.parse(readFileSync(path.join(privateFolder(), 'env.json'), 'utf8'));
    await runJob({ command: ['-c', dump], job: {}, python }).catch(() => {});
    expectClean(seen());
    writeFileSync(path.join(privateFolder(), 'env.json'), '{}');
    const service = await startService({ python, command: ['-c', dump] });
    const guard = environmentOf(service.pid);
    await service.exited;
    expectClean(guard);
    expectClean(seen());
  });
});
