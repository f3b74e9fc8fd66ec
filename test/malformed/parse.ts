// Answers in bytes that a server sent: status, headers, body by length, by chunks or to the end.
import type { RawAnswer } from './send.ts';

/** Every answer in `bytes`; what is behind a broken one is its body. */
export function answersIn(bytes: Buffer): RawAnswer[] {
  const answers: RawAnswer[] = [];
  let rest = bytes;
  while (rest.length > 0) {
    const end = rest.indexOf('\r\n\r\n');
    const head = rest.subarray(0, end < 0 ? rest.length : end).toString('latin1');
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
    const headers = Object.fromEntries(
      head
        .split('\r\n')
        .slice(1)
        .map((line) => {
          const at = line.indexOf(':');
          return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
        }),
    );
    rest = end < 0 ? Buffer.alloc(0) : rest.subarray(end + 4);
    if (status === 100) continue;
    const [body, behind] = bodyOf(rest, headers);
    answers.push({ status, headers, body: body.toString('utf8') });
    rest = behind;
  }
  return answers;
}

function bodyOf(bytes: Buffer, headers: Record<string, string>): [Buffer, Buffer] {
  const length = headers['content-length'];
  if (length !== undefined)
    return [bytes.subarray(0, Number(length)), bytes.subarray(Number(length))];
  if (headers['transfer-encoding'] !== 'chunked') return [bytes, Buffer.alloc(0)];
  const parts: Buffer[] = [];
  let rest = bytes;
  for (;;) {
    const line = rest.indexOf('\r\n');
    const size = Number.parseInt(rest.subarray(0, Math.max(0, line)).toString('latin1'), 16);
    if (line < 0 || Number.isNaN(size)) return [Buffer.concat(parts), Buffer.alloc(0)];
    if (size === 0) return [Buffer.concat(parts), rest.subarray(line + 4)];
    parts.push(rest.subarray(line + 2, line + 2 + size));
    rest = rest.subarray(line + 4 + size);
  }
}
