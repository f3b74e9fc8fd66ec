// Which exported files the onnx engine refuses to run.
import { appendFileSync, cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readContract, writeContract, writeContractFiles } from '../src/checkpoint/index.ts';
import { sha256 } from '../src/contract/index.ts';
import { sealOf } from '../src/engines/onnx/meta-check.ts';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import { failure } from './helpers/failure.ts';
import { graphWith, model } from './onnx-bytes.ts';
import { useExported } from './onnx-engine-fixture.ts';

const exported = useExported(['fp32']);

describe('files that are refused', () => {
  const copy = (name: string): string => {
    const target = path.join(exported.folder, name);
    cpSync(exported.dir, target, { recursive: true });
    return target;
  };
  const code = async (name: string): Promise<string> =>
    (await failure(openOnnxEngine(path.join(exported.folder, name), { threads: 1 }))).code;

  it('refuses a checkpoint without an export', async () => {
    rmSync(path.join(copy('bare'), 'onnx'), { recursive: true });
    expect(await code('bare')).toBe('LS_ENGINE_EXPORT');
  });

  it('refuses files that are not as they were exported', async () => {
    const cut = path.join(copy('cut'), 'onnx/fp32/step.onnx.data');
    writeFileSync(cut, readFileSync(cut).subarray(0, 1000));
    expect(await code('cut')).toBe('LS_ENGINE_CORRUPT');
    appendFileSync(path.join(copy('longer'), 'onnx/fp32/step.onnx'), 'x');
    expect(await code('longer')).toBe('LS_ENGINE_CORRUPT');
    rmSync(path.join(copy('lost'), 'onnx/fp32/step.onnx.data'));
    expect(await code('lost')).toBe('LS_ENGINE_CORRUPT');
    writeFileSync(path.join(copy('meta'), 'onnx/fp32/meta.json'), '{"format": 1}');
    expect(await code('meta')).toBe('LS_ENGINE_CORRUPT');
  });

  it('refuses a graph of another contract', async () => {
    const file = path.join(copy('other'), 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...meta, digest: 'f'.repeat(64) }));
    expect(await code('other')).toBe('LS_ENGINE_DIGEST');
  });

  it('refuses a graph older than its weights, and runs one without weights next to it', async () => {
    const dir = copy('trained');
    const file = path.join(dir, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 100] = (bytes[bytes.length - 100] as number) ^ 1;
    rmSync(file);
    writeFileSync(file, bytes);
    expect(await code('trained')).toBe('LS_WEIGHTS_IDENTITY');
    const { contract, policySource } = await readContract(dir, { weights: 'ignored' });
    await writeContract(dir, { contract, policySource }); // as a training does at its end
    expect(await code('trained')).toBe('LS_ENGINE_STALE');
    await writeContractFiles(dir, { contract, policySource });
    rmSync(file);
    const alone = await openOnnxEngine(path.join(exported.folder, 'trained'), { threads: 1 });
    await alone.close();
  });

  /** Put other bytes in the graph's place, with a meta.json that fits them. */
  const replaceGraph = (target: string, bytes: Uint8Array): void => {
    writeFileSync(path.join(target, 'onnx/fp32/step.onnx'), bytes);
    const metaFile = path.join(target, 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(metaFile, 'utf8'));
    meta.files['step.onnx'] = { bytes: bytes.length, sha256: sha256(bytes) };
    writeFileSync(metaFile, JSON.stringify({ ...meta, seal: sealOf(meta) }));
  };

  it('says when onnxruntime cannot load the graph', async () => {
    replaceGraph(copy('broken'), new Uint8Array());
    expect(await code('broken')).toBe('LS_ENGINE_LOAD');
  });

  it('refuses a graph that would read other files, and a file that is no graph', async () => {
    replaceGraph(copy('none'), Buffer.from('no graph'));
    expect(await code('none')).toBe('LS_ENGINE_GRAPH');
    const own = readFileSync(path.join(exported.dir, 'onnx/fp32/step.onnx'));
    // Protobuf messages merge where they stand one after the other: one more initializer.
    for (const [at, location] of ['../../config.json', '/etc/passwd', 'meta.json'].entries()) {
      const more = model({ graph: graphWith(location) });
      replaceGraph(copy(`reads-${at}`), Buffer.concat([own, more]));
      const error = await failure(
        openOnnxEngine(path.join(exported.folder, `reads-${at}`), { threads: 1 }),
      );
      expect(error).toMatchObject({ code: 'LS_ENGINE_GRAPH' });
      expect(error.message).toContain(JSON.stringify(location));
    }
  });

  it('refuses files that are links out of the folder, and names with a path in them', async () => {
    const target = copy('linked');
    const data = path.join(target, 'onnx/fp32/step.onnx.data');
    rmSync(data);
    symlinkSync(path.join(exported.dir, 'onnx/fp32/step.onnx.data'), data);
    expect(await code('linked')).toBe('LS_CHECKPOINT_LINK');
    const metaFile = path.join(copy('named'), 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(metaFile, 'utf8'));
    meta.files['../../config.json'] = meta.files['step.onnx'];
    writeFileSync(metaFile, JSON.stringify(meta));
    expect(await code('named')).toBe('LS_ENGINE_CORRUPT');
  });
});
