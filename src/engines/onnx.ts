// The embedded engine: onnxruntime-node in a worker thread.
export {
  type OnnxEngine,
  type OnnxEngineOptions,
  type OnnxSession,
  openOnnxEngine,
} from './onnx/engine.ts';
export { readGraph } from './onnx/meta.ts';
export { type Precision, precisions } from './onnx/meta-schema.ts';
