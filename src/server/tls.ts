// TLS: reading a certificate and its key, and checking that they belong together before anything uses them.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { open } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { LockstepError } from '../errors.ts';
import { systemProblem } from '../system-error.ts';
import { checkClosed } from './closed-file.ts';

export interface TlsFiles {
  /** PEM: the certificate, and those between it and the root. */
  cert: string;
  /** PEM: its private key. */
  key: string;
}

/**
 * @throws LS_SERVE_TLS a file cannot be read, is no PEM, or the two do not belong together; the key may be read
 *   by every user of the machine
 */
export async function readTls(files: TlsFiles): Promise<SecureContextOptions> {
  const [cert, key] = await Promise.all([read(files.cert, false), read(files.key, true)]);
  const options = { cert, key, minVersion: 'TLSv1.2' as const };
  let fits: boolean;
  try {
    fits = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
    createSecureContext(options);
  } catch (cause) {
    throw broken(`a certificate and a key in PEM at ${files.cert} and ${files.key}`, cause);
  }
  if (!fits)
    throw broken(`the key of ${files.cert} at ${files.key}, got the key of another certificate`);
  return options;
}

async function read(file: string, secret: boolean): Promise<Buffer> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(file, 'r');
  } catch (cause) {
    throw broken(`a file that can be read at ${file}`, cause);
  }
  try {
    const { mode } = await handle.stat();
    if (secret) checkClosed(mode, 0o007, file, 'LS_SERVE_TLS', 'tls-key');
    return await handle.readFile();
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    throw broken(`a file that can be read at ${file}`, cause);
  } finally {
    await handle.close();
  }
}

function broken(expected: string, cause?: unknown): LockstepError {
  const got = cause === undefined ? '' : `, got ${systemProblem(cause)}`;
  return new LockstepError('LS_SERVE_TLS', `expected ${expected}${got}`, {
    fix: 'Give --tls-cert the certificate chain and --tls-key its private key, both in PEM.',
    field: 'tls-cert',
    cause,
  });
}
