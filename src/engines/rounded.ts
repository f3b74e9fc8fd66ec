// How far rounded models may be from the trainer: one limit for `verify` and for the probe at the start of a server.

/**
 * Largest mean |dlogp| in nats, by engine and precision. The mean, because rounding may retrieve other rows and be nats
 * off in a few places; the longer the text, the larger the largest. How each was set: docs/verify.md.
 */
export const roundedLimits = {
  'torch bfloat16': 0.3,
  'onnx int8': 0.5,
  'onnx int4': 2.5,
} as const;
