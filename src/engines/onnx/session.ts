// How every graph of the engine is loaded.
import * as ort from 'onnxruntime-node';
import type { WorkerSetup } from './protocol.ts';

export async function loadGraph(file: string, setup: WorkerSetup): Promise<ort.InferenceSession> {
  return ort.InferenceSession.create(file, {
    executionProviders: ['cpu'],
    intraOpNumThreads: setup.threads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Every length would leave a plan behind.
    enableMemPattern: false,
    logSeverityLevel: 4,
    extra: {
      session: {
        disable_prepacking: setup.prepack ? '0' : '1',
        // Threads that spin between nodes take the processor from everyone else: 2-3x slower when shared.
        intra_op: { allow_spinning: '0' },
      },
    },
  });
}
