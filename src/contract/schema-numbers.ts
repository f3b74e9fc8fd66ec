// Integers that every runtime holds alike, in cells of 32 bits too.
import { z } from 'zod';

export const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
export const positive = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);
export const sha256Digits = z
  .string()
  .regex(/^[0-9a-f]{64}$/, 'expected 64 lowercase hexadecimal digits');
