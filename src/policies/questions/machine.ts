// Ends of questions: the machine of `sentences`, and whether a question mark ended this one.
import { type State as Prose, sentenceMachine } from '../sentences/machine.ts';
import type { TextMachine } from '../text/machine.ts';

const marks = ['?', '？', '؟'];

interface State {
  prose: Prose;
  /** A question mark ended the sentence whose end, closers or white space were read last. */
  question: boolean;
}

function ended({ at: { kind } }: Prose): boolean {
  return kind === 'end' || kind === 'rest' || kind === 'blank';
}

/** Machine of the policy `questions`. */
export function questionMachine(): TextMachine<State> {
  // Abbreviations are a matter of full stops, which end no question.
  const prose = sentenceMachine([]);
  const mark = prose.classify('?');
  return {
    start: { prose: prose.start, question: false },
    classes: prose.classes + 1,
    classify: (character) =>
      marks.includes(character) ? prose.classes : prose.classify(character),
    step: (state, read) => {
      const asking = read === prose.classes;
      const next = prose.step(state.prose, asking ? mark : read);
      return { prose: next, question: ended(next) && (asking || state.question) };
    },
    asks: (state) => state.question && prose.asks(state.prose),
    settle: (state) => {
      const settled = prose.settle?.(state.prose) ?? state.prose;
      return { prose: settled, question: state.question && ended(settled) };
    },
  };
}
