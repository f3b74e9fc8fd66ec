// The time that a policy may take over one token.

/**
 * Whether the time of the token at work is over. A token's time is over once the clock and the processor
 * both say so: on a busy machine a policy waits without computing.
 *
 * @param milliseconds for one token
 * @param indexAtWork index of the token at work; another one gets new time
 */
export function tokenTimer(milliseconds: number, indexAtWork: () => number): () => boolean {
  let since = performance.now();
  let used = process.cpuUsage();
  let index = -2;
  return () => {
    const at = indexAtWork();
    if (at !== index) {
      index = at;
      since = performance.now();
      used = process.cpuUsage();
    }
    if (performance.now() - since <= milliseconds) return false;
    const { user, system } = process.cpuUsage(used);
    return (user + system) / 1000 > milliseconds;
  };
}
