// A plan as one line of JSON.
import { once } from 'node:events';

/** Boundaries in stretches: a plan of millions of cuts makes no second copy of itself as text. */
export async function printJson(
  tokens: number,
  boundaries: number[],
  digest: string,
): Promise<void> {
  const { stdout } = process;
  stdout.write(`{"tokens":${tokens},"boundaries":[`);
  for (let at = 0; at < boundaries.length; at += 65_536) {
    const part = boundaries.slice(at, at + 65_536).join(',');
    if (!stdout.write(at === 0 ? part : `,${part}`)) {
      await once(stdout, 'drain');
    }
  }
  stdout.write(`],"digest":"${digest}"}\n`);
}
