// Whether weights are read only to check them: hashing them all costs a start some seconds, once.

/** False where `LOCKSTEP_NO_WEIGHTS_CHECK` asks not to. Headers are read and judged all the same. */
export function weightsChecked(): boolean {
  const value = process.env['LOCKSTEP_NO_WEIGHTS_CHECK'] ?? '';
  return value === '' || value === '0';
}
