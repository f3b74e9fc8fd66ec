// How much of the server one request or one caller may take, with the defaults.

export interface Bounds {
  /** A request that waits for a slot this long gets 503; null sets no limit. */
  queueTimeoutMs: number | null;
  /** A request that takes longer than this in all is broken off (504); null sets no limit. */
  requestTimeoutMs: number | null;
  /** Most slots that one key of several may hold. */
  maxPerCaller: number;
  /** Most tokens of an answer; null sets no limit beside the session's. */
  maxCompletion: number | null;
  /** Most messages of a conversation. */
  maxMessages: number;
  /** Threads that read large requests. */
  largeThreads: number;
  /** Most large requests that wait for a thread; the next one gets 429. */
  maxLarge: number;
}

/** @param sessions most generations at once: one key leaves a slot for the others */
export function boundsOf(options: Partial<Bounds>, sessions: number): Bounds {
  return {
    queueTimeoutMs: null,
    requestTimeoutMs: null,
    maxPerCaller: Math.max(1, sessions - 1),
    maxCompletion: null,
    maxMessages: 4096,
    largeThreads: 1,
    maxLarge: 16,
    ...options,
  };
}
