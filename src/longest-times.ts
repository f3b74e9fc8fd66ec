// How long a time can be that somebody gives.

/** Node's timers hold 32 bits of milliseconds (24 days); one that is set for longer fires at once. */
export const longestMs = 2 ** 31 - 1;

/** The same in whole seconds, with room for what is added to a limit. */
export const longestSeconds = 2_000_000;

/** Of a training, 19 years: beyond it a number is a mistake, and its seconds may not be one. */
export const longestMinutes = 10_000_000;
