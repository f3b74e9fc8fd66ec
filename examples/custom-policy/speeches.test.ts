// A policy is tested without a model: node --import tsx --test examples/custom-policy/speeches.test.ts
import assert from 'node:assert/strict';
import test from 'node:test';
import { segmentsOf } from 'lockstep';
import { speeches } from './speeches.ts';

test('cuts behind the blank line that ends a speech', () => {
  const tokens = ['To be', ' or not.', '\n', '\n', 'Soft you', ' now.', '\n\n', 'Good'];
  assert.deepEqual(segmentsOf(speeches({ speeches: 1 }), tokens), [
    'To be or not.\n\n',
    'Soft you now.\n\n',
    'Good',
  ]);
});

test('two speeches make a segment by default, and a line end alone makes none', () => {
  const tokens = ['One', '\n', 'line', '\n\n', 'Two', '\n\n', 'Three'];
  assert.deepEqual(segmentsOf(speeches(), tokens), ['One\nline\n\nTwo\n\n', 'Three']);
});
