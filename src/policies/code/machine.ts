// Markdown and code, character by character: blank lines and fences (CommonMark 4.5).
import type { TextMachine } from '../text/machine.ts';

type Fence = '`' | '~';

/** Where the machine stands. `fence` and `need` are the open (or opening) fence's. */
type State =
  /** Only white space in this line so far. `block`: a blank line or a closed fence came before. */
  | { at: 'line'; block: 'none' | 'ends' | 'cut' }
  | { at: 'text' }
  /** `count` markers at the beginning of a line. */
  | { at: 'opening'; fence: Fence; count: number }
  | { at: 'info'; fence: Fence; need: number }
  | { at: 'inside'; fence: Fence; need: number; in: 'line' | 'text' | 'closed' }
  | { at: 'closing'; fence: Fence; need: number; count: number };

const classes = ['\n', ' ', '`', '~', 'x'] as const;
/** Longer fences count as this long: the machine is finite. */
const longest = 6;

const text: State = { at: 'text' };
const newBlock: State = { at: 'line', block: 'ends' };

/** Machine of the policy `code`. A fence may stand at any indentation, as inside lists. */
export const codeMachine: TextMachine<State> = {
  start: { at: 'line', block: 'cut' },
  classes: classes.length,
  classify: (character) => {
    if (character === '\n' || character === '`' || character === '~') {
      return classes.indexOf(character);
    }
    return classes.indexOf(character.trim() === '' ? ' ' : 'x');
  },
  step: (state, read) => step(state, classes[read] as (typeof classes)[number]),
  asks: (state) => state.at === 'line' && state.block === 'ends',
  settle: (state) =>
    state.at === 'line' && state.block === 'ends' ? { at: 'line', block: 'cut' } : state,
};

function step(state: State, read: (typeof classes)[number]): State {
  switch (state.at) {
    case 'line':
      if (read === '\n') return state.block === 'cut' ? state : newBlock;
      if (read === ' ') return state;
      return read === 'x' ? text : { at: 'opening', fence: read, count: 1 };
    case 'text':
      return read === '\n' ? { at: 'line', block: 'none' } : text;
    case 'opening':
      return opening(state.fence, state.count, read);
    case 'info':
      // "```a```" is inline code: no backtick may follow an opening fence of backticks.
      if (read === '`' && state.fence === '`') return text;
      return read === '\n' ? inside(state, 'line') : state;
    case 'inside':
      return within(state, read);
    case 'closing':
      if (read === state.fence) return { ...state, count: Math.min(state.count + 1, state.need) };
      if (state.count < state.need) return inside(state, read === '\n' ? 'line' : 'text');
      if (read === '\n') return newBlock;
      return inside(state, read === ' ' ? 'closed' : 'text');
  }
}

function opening(fence: Fence, count: number, read: string): State {
  if (read === fence) return { at: 'opening', fence, count: Math.min(count + 1, longest) };
  if (count < 3) return step(text, read as (typeof classes)[number]);
  return step({ at: 'info', fence, need: count }, read as (typeof classes)[number]);
}

function within(state: State & { at: 'inside' }, read: string): State {
  if (read === '\n') return state.in === 'closed' ? newBlock : inside(state, 'line');
  if (read === ' ') return state;
  if (state.in === 'line' && read === state.fence) {
    return { at: 'closing', fence: state.fence, need: state.need, count: 1 };
  }
  return inside(state, 'text');
}

function inside(open: { fence: Fence; need: number }, where: 'line' | 'text' | 'closed'): State {
  return { at: 'inside', fence: open.fence, need: open.need, in: where };
}
