// The embedded engine: onnxruntime-node in a worker thread.
export {
  type OnnxEngine,
  type OnnxEngineOptions,
  type OnnxSession,
  openOnnxEngine,
} from './engine.ts';
export { type Precision, precisions } from './meta.ts';
