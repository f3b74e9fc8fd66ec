// Sentence ends in prose, character by character, without lookahead.
//
// A full stop can end a sentence, shorten a word, stand in a number or in an ellipsis; what follows
// would tell, but is not known yet. The rules therefore look back: at the word before the stop, and
// at whether a quotation or bracket is still open (its closer is about to come, and belongs to this
// sentence). Where the past does not decide, they wait for white space that ends a line.
import type { TextMachine } from '../text/machine.ts';

type At =
  /** After white space, an opening bracket, a dash: a straight quote opens. `newlines`: 0 or 1. */
  | { kind: 'gap'; newlines: number }
  /** In a word; `spelled` is its text while it may become an abbreviation, else ''. */
  | { kind: 'word'; spelled: string }
  | { kind: 'digit' }
  /** After other marks, or a stop that ends nothing. */
  | { kind: 'mark' }
  /** A stop after a digit: a decimal point, unless a line or a quotation ends here. */
  | { kind: 'point' }
  | { kind: 'ellipsis' }
  /** After a sentence end and its closers. */
  | { kind: 'end' }
  /** White space after a sentence end. */
  | { kind: 'rest'; newlines: number }
  /** After a blank line. */
  | { kind: 'blank' }
  /** The cut was made; white space (`spaced`) and closers here belong to no sentence. */
  | { kind: 'cut'; spaced: boolean };

/** State of the policy `sentences`. */
export interface State {
  /**
   * What is open; one level, as prose seldom nests. A bracket opened within a sentence is an aside:
   * the sentence continues after it. First, so that it orders the states.
   */
  open: 'none' | 'quote' | 'bracket' | 'aside';
  at: At;
}

const classNames = [
  'newline',
  'space',
  'letter',
  'digit',
  'stop',
  'bang',
  'ellipsis',
  'straight',
  'openQuote',
  'closeQuote',
  'apostrophe',
  'openBracket',
  'closeBracket',
  'dash',
  'mark',
] as const;
type Class = (typeof classNames)[number] | { readonly letter: string };

const characters: Readonly<Record<string, (typeof classNames)[number]>> = {
  '\n': 'newline',
  '.': 'stop',
  '!': 'bang',
  '?': 'bang',
  '。': 'bang',
  '．': 'bang',
  '！': 'bang',
  '？': 'bang',
  '؟': 'bang',
  '।': 'bang',
  '…': 'ellipsis',
  '"': 'straight',
  '“': 'openQuote',
  '„': 'openQuote',
  '«': 'openQuote',
  '「': 'openQuote',
  '『': 'openQuote',
  '”': 'closeQuote',
  '»': 'closeQuote',
  '」': 'closeQuote',
  '』': 'closeQuote',
  "'": 'apostrophe',
  '’': 'apostrophe',
  '‘': 'apostrophe',
  '(': 'openBracket',
  '[': 'openBracket',
  '{': 'openBracket',
  '（': 'openBracket',
  ')': 'closeBracket',
  ']': 'closeBracket',
  '}': 'closeBracket',
  '）': 'closeBracket',
  '-': 'dash',
  '–': 'dash',
  '—': 'dash',
};

const letter = /^[\p{L}\p{M}\uFFFD]$/u;
const digit = /^\p{Nd}$/u;

const gap: At = { kind: 'gap', newlines: 0 };
const word: At = { kind: 'word', spelled: '' };
const mark: At = { kind: 'mark' };
const end: At = { kind: 'end' };

/** Machine of the policy `sentences`, with words after which a stop ends nothing. */
export function sentenceMachine(abbreviations: readonly string[]): TextMachine<State> {
  const known = new Set(abbreviations);
  const prefixes = new Set(
    abbreviations.flatMap((text) => Array.from(text, (_, i) => text.slice(0, i + 1))),
  );
  // Letters that no abbreviation has need no class of their own, but for being one letter long.
  const letters = [...new Set(`I${abbreviations.join('')}`)].sort();
  const classes: Class[] = [...classNames, ...letters.map((text) => ({ letter: text }))];

  /** A single letter is an initial ("J. S. Bach", "e.g."), but for the pronoun. */
  const shortens = (spelled: string): boolean =>
    known.has(spelled) || (spelled.length === 1 && spelled !== 'I');

  const spell = (at: At, read: string): At => {
    if (at.kind === 'digit') return word;
    if (at.kind !== 'word') return { kind: 'word', spelled: read };
    const longer = at.spelled + read;
    return at.spelled !== '' && prefixes.has(longer) ? { kind: 'word', spelled: longer } : word;
  };

  const step = ({ at, open }: State, read: Class): State => {
    if (typeof read !== 'string') return { open, at: spell(at, read.letter) };
    switch (read) {
      case 'newline':
      case 'space':
        return white({ at, open }, read);
      case 'letter':
        return { open, at: spell(at, '?') };
      case 'digit':
        return { open, at: { kind: 'digit' } };
      case 'stop':
        return { open, at: stop(at) };
      case 'bang':
        // "?!" in two tokens: the cut is made.
        return { open, at: at.kind === 'cut' && !at.spaced ? at : end };
      case 'ellipsis':
        return { open, at: { kind: 'ellipsis' } };
      case 'straight':
        if (open === 'quote') return { open: 'none', at: closed(at) };
        if (open === 'none' && opens(at)) return { open: 'quote', at: gap };
        return { open, at: closed(at) };
      case 'openQuote':
        return { open: open === 'none' ? 'quote' : open, at: gap };
      case 'closeQuote':
        return { open: open === 'quote' ? 'none' : open, at: closed(at) };
      case 'openBracket':
        if (open !== 'none') return { open, at: gap };
        return { open: betweenSentences(at) ? 'bracket' : 'aside', at: gap };
      case 'closeBracket':
        if (open === 'aside') return { open: 'none', at: word };
        return { open: open === 'bracket' ? 'none' : open, at: closed(at) };
      case 'apostrophe':
        // Inside a word ("don't") the word continues; after a sentence end it closes.
        if (at.kind === 'word') return { open, at: word };
        return { open, at: opens(at) ? gap : closed(at) };
      case 'dash':
        return { open, at: gap };
      case 'mark':
        return { open, at: mark };
    }
  };

  const stop = (at: At): At => {
    switch (at.kind) {
      case 'word':
        return shortens(at.spelled) ? mark : end;
      case 'digit':
        return { kind: 'point' };
      case 'end':
      case 'ellipsis':
        return { kind: 'ellipsis' };
      case 'gap':
      case 'rest':
      case 'blank':
      case 'cut':
        return mark;
      default:
        return at.kind === 'mark' ? end : mark;
    }
  };

  return {
    start: { open: 'none', at: { kind: 'cut', spaced: true } },
    classes: classes.length,
    classify: (character) => {
      const name = characters[character];
      const own = letters.indexOf(character);
      if (own !== -1) return classNames.length + own;
      if (name !== undefined) return classNames.indexOf(name);
      if (character.trim() === '') return classNames.indexOf('space');
      if (letter.test(character)) return classNames.indexOf('letter');
      return classNames.indexOf(digit.test(character) ? 'digit' : 'mark');
    },
    step: (state, read) => step(state, classes[read] as Class),
    asks: ({ at, open }) =>
      at.kind === 'blank' || (open === 'none' && (at.kind === 'end' || at.kind === 'rest')),
    settle: (state) => {
      const { at, open } = state;
      if (at.kind === 'blank') return { open, at: { kind: 'cut', spaced: true } };
      if (open !== 'none' || (at.kind !== 'end' && at.kind !== 'rest')) return state;
      return { open, at: { kind: 'cut', spaced: at.kind === 'rest' } };
    },
  };
}

/** White space. A blank line ends the sentence and whatever was left open. */
function white({ at, open }: State, read: 'newline' | 'space'): State {
  if (at.kind === 'cut') return { open, at: { kind: 'cut', spaced: true } };
  if (at.kind === 'blank') return { open, at };
  const newline = read === 'newline' ? 1 : 0;
  const seen = (at.kind === 'gap' || at.kind === 'rest' ? at.newlines : 0) + newline;
  if (seen > 1) return { open: 'none', at: { kind: 'blank' } };
  const ends =
    at.kind === 'end' ||
    at.kind === 'rest' ||
    (newline === 1 && (at.kind === 'point' || at.kind === 'ellipsis'));
  return { open, at: { kind: ends ? 'rest' : 'gap', newlines: seen } };
}

/** After a closing quote or bracket: a sentence that ended inside ends with it. */
function closed(at: At): At {
  switch (at.kind) {
    case 'end':
    case 'rest':
    case 'point':
    case 'ellipsis':
      return end;
    case 'cut':
      return at;
    default:
      return word;
  }
}

/** Whether what comes now begins a sentence. */
function betweenSentences(at: At): boolean {
  return at.kind === 'rest' || at.kind === 'blank' || at.kind === 'end' || at.kind === 'cut';
}

/** Whether a straight quote here opens rather than closes. */
function opens(at: At): boolean {
  if (at.kind === 'cut') return at.spaced;
  return at.kind === 'gap' || at.kind === 'blank' || at.kind === 'rest';
}
