// JSON values.

/** JSON without floating-point numbers: what parameters and tables are made of. */
export type Json =
  | number
  | string
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };
