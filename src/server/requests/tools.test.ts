import { expect, test } from 'vitest';
import { toolsOf } from './tools.ts';

test('references of a tool’s schema resolve in it, whatever its parameters are called', () => {
  const parameters = {
    type: 'object',
    properties: {
      default: { $ref: '#/$defs/enum' },
      again: { anyOf: [{ $ref: '#' }, { const: { $ref: '#/text' } }] },
      $ref: { type: 'string', default: { $ref: '#' } },
      other: { $ref: '#name' },
    },
    $defs: { enum: { $ref: '#/$defs/const' }, const: { enum: [{ $ref: '#' }] } },
  };
  const { format } = toolsOf({
    tools: [{ type: 'function', function: { name: 'a', parameters } }],
    tool_choice: 'required',
  });
  const here = '#/$defs/arguments0';
  expect(format).toMatchObject({
    json_schema: {
      schema: {
        items: { anyOf: [{ properties: { arguments: { $ref: here } } }] },
        $defs: {
          arguments0: {
            type: 'object',
            properties: {
              default: { $ref: `${here}/$defs/enum` },
              again: { anyOf: [{ $ref: here }, { const: { $ref: '#/text' } }] },
              $ref: { type: 'string', default: { $ref: '#' } },
              other: { $ref: '#name' },
            },
            $defs: { enum: { $ref: `${here}/$defs/const` }, const: { enum: [{ $ref: '#' }] } },
          },
        },
      },
    },
  });
});
