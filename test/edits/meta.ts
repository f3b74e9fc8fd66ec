// meta.json of an exported graph, plainly and with its seal made right again.
import { sealOf } from '../../src/engines/onnx/meta-check.ts';
import { changed, type Document, type Edit, removed, rewritten, set } from './edit.ts';

const file = 'onnx/fp32/meta.json';

function model(field: string, change: (model: Document) => void): Edit {
  return changed(file, `\`model.${field}\``, (meta) => change(meta.model));
}

function sealed(name: string, change: (meta: Document) => void): Edit {
  return changed(file, `${name}, seal recomputed`, (meta: Document) => {
    change(meta);
    meta.seal = sealOf(meta);
  });
}

export const metaEdits: readonly Edit[] = [
  set(file, 'format', 2),
  set(file, 'precision', 'int8'),
  set(file, 'digest', 'f'.repeat(64)),
  model('architecture', (shape) => {
    shape.architecture = 'mistral';
  }),
  ...['layers', 'vocabulary', 'queryHeads', 'kvHeads', 'headDim'].map((field) =>
    model(field, (shape) => {
      shape[field] *= 2;
    }),
  ),
  model('invFreq[1]', (shape) => {
    shape.invFreq[1] *= 1.01;
  }),
  model('invFreq.length', (shape) => {
    shape.invFreq.pop();
  }),
  model('attentionFactor', (shape) => {
    shape.attentionFactor = 1.1;
  }),
  changed(file, 'the sum of `step.onnx`', (meta) => {
    meta.files['step.onnx'].sha256 = '0'.repeat(64);
  }),
  changed(file, 'no `step.onnx.data` in `files`', (meta) => {
    meta.files['step.onnx.data'] = undefined;
  }),
  changed(file, '`weights`', (meta) => {
    meta.weights = '0'.repeat(64);
  }),
  changed(file, '`quality.forced`', (meta) => {
    meta.quality.forced = true;
  }),
  set(file, 'seal', undefined),
  set(file, 'more', 1),
  sealed('`model.invFreq` of another theta', (meta) => {
    meta.model.invFreq = meta.model.invFreq.map((f: number, i: number) => f * 0.5 ** i);
  }),
  sealed('`weights`', (meta) => {
    meta.weights = '0'.repeat(64);
  }),
  sealed('`model.kvHeads`', (meta) => {
    meta.model.kvHeads = 4;
  }),
  sealed('the sum of `step.onnx`', (meta) => {
    meta.files['step.onnx'].sha256 = '0'.repeat(64);
  }),
  rewritten(file, 'no JSON', () => '{'),
  removed(file),
];
