// The caller's own notes on a response or a batch, which come back with it; as large as at OpenAI.
import { z } from 'zod';

export const metadata = z
  .record(z.string(), z.string().max(512))
  .refine((map) => Object.keys(map).length <= 16, 'expected at most 16 entries')
  .refine(
    (map) => Object.keys(map).every((name) => name.length >= 1 && name.length <= 64),
    'expected names of 1 to 64 letters',
  );
