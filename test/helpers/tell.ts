// What a search came to, for whoever runs a long one: a line of JSON on stderr where LOCKSTEP_TELL=1.

export function tell(result: { search: string; count: number; [more: string]: unknown }): void {
  if (process.env['LOCKSTEP_TELL'] === '1') process.stderr.write(`${JSON.stringify(result)}\n`);
}
