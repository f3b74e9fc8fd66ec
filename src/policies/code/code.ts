// code: cuts at the ends of blocks of Markdown or source code, never inside a fence.
import { definePolicy } from '../define.ts';
import { compileText, cutText, pushText, type TextTables } from '../text/tables.ts';
import { codeMachine } from './machine.ts';

/**
 * Asks for a cut after a blank line outside fences and after the line that closes a fence (``` or
 * ~~~, opened and closed at the beginning of a line). Inside a fence it never asks, so only
 * `segment.max` cuts there. A special token (end of document, end of turn) closes an open fence.
 */
export const code = definePolicy({
  name: 'code',
  module: import.meta.url,
  prepare: (vocabulary): TextTables => compileText(vocabulary, codeMachine),
  start: () => ({ at: 0 }),
  push: (state, token, { tables }) => pushText(state, token, tables),
  cut: (state, { tables }) => cutText(state, tables),
});
