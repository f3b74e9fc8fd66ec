// A text in a request: only well-formed Unicode has a UTF-8 form.
import { z } from 'zod';
import { isWellFormed } from './parse.ts';

export const text = z.string().refine((value) => isWellFormed(value), {
  error: 'expected well-formed Unicode, got a lone surrogate',
});
