// A certificate that signs itself, with its key, as files.
import { execFileSync } from 'node:child_process';
import { chmod } from 'node:fs/promises';

/** Write a certificate of this name, for `localhost`, and its key, which its owner alone may read. */
export async function makeCertificate(name: string, cert: string, key: string): Promise<void> {
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const says = ['-days', '2', '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync('openssl', ['req', ...kind, ...says, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  await chmod(key, 0o600);
}
