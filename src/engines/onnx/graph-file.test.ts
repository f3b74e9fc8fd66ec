import { describe, expect, it } from 'vitest';
import { external, field, graphWith, model } from '../../../test/onnx-bytes.ts';
import { namedFiles } from './graph-file.ts';

const tensor = external('../secret');
const attribute = (content: Uint8Array) => field(1, field(5, content));
/** Every place of a model where a tensor may stand. */
const places: Record<string, Buffer> = {
  'an initializer': model({ graph: graphWith('../secret') }),
  'a sparse initializer': model({ graph: field(15, field(1, tensor)) }),
  'indices of a sparse initializer': model({ graph: field(15, field(2, tensor)) }),
  'an attribute': model({ graph: attribute(field(5, tensor)) }),
  'a list of tensors': model({ graph: attribute(field(10, tensor)) }),
  'a subgraph': model({ graph: attribute(field(6, graphWith('../secret'))) }),
  'one of several subgraphs': model({ graph: attribute(field(11, graphWith('../secret'))) }),
  'a subgraph of a subgraph': model({
    graph: attribute(field(6, attribute(field(6, graphWith('../secret'))))),
  }),
  'a sparse attribute': model({ graph: attribute(field(22, field(1, tensor))) }),
  'a list of sparse tensors': model({ graph: attribute(field(23, field(2, tensor))) }),
  'a function': model({ more: field(25, field(7, field(5, field(5, tensor)))) }),
  "a function's default": model({ more: field(25, field(11, field(5, tensor))) }),
  'a training step': model({ more: field(20, field(1, graphWith('../secret'))) }),
  'a second graph': model({ graph: Buffer.of(), more: field(7, graphWith('../secret')) }),
};

describe('namedFiles', () => {
  it.each(Object.entries(places))('finds a file named by %s', (_, bytes) => {
    expect(namedFiles(bytes)).toEqual({ locations: ['../secret'], problem: null });
  });

  it('finds nothing in names and texts that only look like it', () => {
    const bytes = model({ graph: field(2, tensor), more: field(6, tensor) });
    expect(namedFiles(bytes)).toEqual({ locations: [], problem: null });
  });

  it('refuses compiled parts, settings of the session, and what is no protobuf', () => {
    const compiled = model({ graph: field(1, field(4, 'EPContext')) });
    expect(namedFiles(compiled).problem).toContain('EPContext');
    const settings = model({
      more: field(14, Buffer.concat([field(1, 'ort_config'), field(2, '{}')])),
    });
    expect(namedFiles(settings).problem).toContain('ort_config');
    expect(namedFiles(Buffer.from('no graph')).problem).toContain('no ONNX file');
    let deep = graphWith('x');
    for (let i = 0; i < 100; i++) deep = attribute(field(6, deep));
    expect(namedFiles(model({ graph: deep })).problem).toContain('nested too deeply');
    const whole = places['an initializer'] as Buffer;
    expect(namedFiles(whole.subarray(0, whole.length - 3)).problem).toContain('ends inside');
  });
});
