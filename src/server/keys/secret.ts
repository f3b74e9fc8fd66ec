// A client's key: how one is made, and how it is compared with the hash that a keys file holds.
import { createHash, randomBytes, scrypt, timingSafeEqual } from 'node:crypto';

/** scrypt's cost: some 50 ms and 16 MiB for one comparison. */
const COST = 16_384;
const BLOCK = 8;
const PARALLEL = 1;
const BYTES = 32;

const LETTERS = 'abcdefghijklmnopqrstuvwxyz234567';
const KEY = /^ls-([a-z2-7]{10})-[A-Za-z0-9_-]{43}$/;

/** A new key, `ls-ID-SECRET`, with the id and the hash that a keys file keeps of it. */
export async function newKey(): Promise<{ key: string; id: string; hash: string }> {
  const id = Array.from(randomBytes(10), (byte) => LETTERS[byte % 32]).join('');
  const key = `ls-${id}-${randomBytes(BYTES).toString('base64url')}`;
  const salt = randomBytes(16);
  const hash = await derive(key, salt, COST);
  const parts = ['scrypt', COST, BLOCK, PARALLEL, salt.toString('base64url')];
  return { key, id, hash: [...parts, hash.toString('base64url')].join(':') };
}

/** The id of a key; null for a text that has not a key's form. */
export function idOf(key: string): string | null {
  return KEY.exec(key)?.[1] ?? null;
}

/** Whether a key is the one that was hashed, compared in constant time. Takes some 50 ms. */
export async function matches(key: string, hash: string): Promise<boolean> {
  const [, cost, , , salt, expected] = hash.split(':') as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  const found = await derive(key, Buffer.from(salt, 'base64url'), Number(cost));
  return timingSafeEqual(found, Buffer.from(expected, 'base64url'));
}

/** SHA-256 of a key: what the server remembers of one that it has already compared. */
export function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function derive(key: string, salt: Buffer, cost: number): Promise<Buffer> {
  const options = { N: cost, r: BLOCK, p: PARALLEL, maxmem: 256 * cost * BLOCK };
  return new Promise((resolve, reject) => {
    scrypt(key, salt, BYTES, options, (error, bytes) => {
      if (error === null) resolve(bytes);
      else reject(error);
    });
  });
}
