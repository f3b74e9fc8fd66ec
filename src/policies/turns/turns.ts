// turns: cuts around the answers of a conversation, by the checkpoint's own chat template.
import { definePolicy } from '../define.ts';
import { compileSequences, readSequence, type SequenceTables } from './matcher.ts';

/** Tokens of an answer before it is first cut inside. */
const FIRST = 8;

/**
 * Asks for a cut after the header that opens an assistant's answer (`<|im_start|>assistant\n`) and at
 * the end of an answer (after `<|im_end|>\n`), as the chat template writes them.
 *
 * A user's turn ends with the header of its answer: a cut at its own `<|im_end|>` would stand a few
 * tokens before the header's, which `segment.min` would then drop. Outside an answer, an end asks for
 * nothing. The header asks until there is a cut or the answer ends: where it comes too early after the
 * last cut, the next one falls as soon as `segment.min` lets it.
 *
 * With `again`, an answer is cut inside, too: after 8, 16, 32, 64, ... of its tokens, and at the latest
 * `again` tokens after the last cut. Each cut retrieves again, by what the answer says by then: a fact
 * whose subject the answer names is found more surely than by the question alone. 0 (the default): one
 * segment for the whole answer, or as many as `segment.max` needs.
 */
export const turns = definePolicy({
  name: 'turns',
  module: import.meta.url,
  params: { again: 0 },
  check: ({ again }, refuse) => {
    if (again < 0) refuse('again', 'an integer >= 0');
  },
  prepare: (vocabulary): SequenceTables => {
    const marks = vocabulary.chat?.();
    if (marks === undefined) throw new Error('turns needs a vocabulary that has a chat template');
    return compileSequences([marks.answer, marks.ends]);
  },
  start: () => ({ at: 0, answering: false, waiting: false, read: 0, next: 0 }),
  push: (state, token, { tables, params }) => {
    state.at = readSequence(tables, state.at, token);
    const [answer, ends] = tables.complete as [readonly number[], readonly number[]];
    if (state.at !== 0 && answer.includes(state.at)) {
      state.answering = true;
      state.waiting = true;
      state.read = 0;
    } else if (state.at !== 0 && state.answering && ends.includes(state.at)) {
      state.answering = false;
      state.waiting = false;
      return true;
    } else if (state.answering) {
      state.read += 1;
      if (params.again > 0 && !state.waiting && state.read >= state.next) state.waiting = true;
    }
    return state.waiting;
  },
  cut: (state, { params }) => {
    state.waiting = false;
    state.next = state.read + Math.min(params.again, Math.max(FIRST, state.read));
  },
});
