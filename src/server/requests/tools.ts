// Tools that a chat request brings, and what is to be done with them.
import { z } from 'zod';
import type { ToolMode } from '../answers/tool-calls.ts';
import { invalid } from '../errors.ts';

/** As many tools as one request may bring. */
export const MOST_TOOLS = 128;

/** What a request says of a function; `/v1/responses` has it beside the tool's type. */
export const functionFields = {
  name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected letters, digits, _ and -'),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
};

export const tool = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject(functionFields),
});

const named = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject({ name: z.string() }),
});

export const toolChoice = z.union([z.enum(['none', 'auto', 'required']), named]);

/** The fields of a chat request that say something of tools. */
export interface ToolFields {
  tools?: z.infer<typeof tool>[] | undefined;
  tool_choice?: z.infer<typeof toolChoice> | undefined;
  parallel_tool_calls?: boolean | undefined;
  response_format?: { type: string } | undefined;
}

export interface RequestedTools {
  /** The tools that the chat template gets; null: none. */
  shown: readonly object[] | null;
  mode: ToolMode | null;
  /** The response format of the text, where a call is required. */
  format: object | null;
}

/**
 * What tools a chat request brings and what is to be done with them.
 *
 * @throws HttpError 400 for a choice without tools, an unknown name, a call and a response format both demanded
 */
export function toolsOf(body: ToolFields): RequestedTools {
  const tools = body.tools ?? [];
  const choice = body.tool_choice ?? (tools.length > 0 ? 'auto' : 'none');
  if (tools.length === 0) {
    const without = (field: string) => invalid(field, `\`${field}\` requires \`tools\`.`);
    if (choice !== 'none' && choice !== 'auto') throw without('tool_choice');
    if (body.parallel_tool_calls === false) throw without('parallel_tool_calls');
    return { shown: null, mode: null, format: null };
  }
  const names = tools.map((one) => one.function.name);
  const twice = names.findIndex((name, i) => names.indexOf(name) < i);
  if (twice >= 0) {
    throw invalid(
      `tools[${twice}].function.name`,
      `\`tools[${twice}].function.name\`: expected unique names, got \`${names[twice]}\` again.`,
    );
  }
  if (choice === 'none') return { shown: tools, mode: null, format: null };
  const single = body.parallel_tool_calls === false;
  if (choice === 'auto') {
    return { shown: tools, mode: { kind: 'free', names, single }, format: null };
  }
  if (body.response_format !== undefined && body.response_format.type !== 'text') {
    throw invalid(
      'response_format',
      '`response_format`: expected none with a `tool_choice` that requires a call.',
    );
  }
  if (choice === 'required') {
    return { shown: tools, mode: { kind: 'list' }, format: held(listOfCalls(tools, single)) };
  }
  const one = tools.find((other) => other.function.name === choice.function.name);
  if (one === undefined) {
    throw invalid(
      'tool_choice.function.name',
      `\`tool_choice.function.name\`: expected one of ${names.join(', ')}, got another.`,
    );
  }
  return {
    shown: tools,
    mode: { kind: 'one', name: one.function.name },
    format: held(one.function.parameters ?? anything),
  };
}

const anything = { type: 'object' };

/** The schema of a list that calls at least one of these tools. */
function listOfCalls(tools: readonly z.infer<typeof tool>[], single: boolean): object {
  const calls = tools.map(({ function: { name } }, i) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: { $ref: `#/$defs/arguments${i}` } },
    required: ['name', 'arguments'],
    additionalProperties: false,
  }));
  const most = single ? { maxItems: 1 } : {};
  const $defs = Object.fromEntries(
    tools.map(({ function: { parameters } }, i) => {
      const name = `arguments${i}`;
      return [name, moved(parameters ?? anything, `#/$defs/${name}`)];
    }),
  );
  return { type: 'array', minItems: 1, ...most, items: { anyOf: calls }, $defs };
}

/** Their values are schemas by names of the user's own. */
const NAMED = ['properties', 'patternProperties', 'dependentSchemas', '$defs', 'definitions'];
/** Their values are no schemas. */
const VALUES = ['const', 'enum', 'default', 'examples'];

/**
 * A schema that was moved to `place` inside another one: its references to `#` now point there.
 *
 * @param named whether its keys are the user's own, not JSON Schema's
 */
function moved(schema: unknown, place: string, named = false): unknown {
  if (Array.isArray(schema)) return schema.map((one) => moved(one, place));
  if (typeof schema !== 'object' || schema === null) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([name, value]) => {
      if (named) return [name, moved(value, place)];
      if (name === '$ref' && typeof value === 'string' && /^#(\/|$)/.test(value)) {
        return [name, place + value.slice(1)];
      }
      return [name, VALUES.includes(name) ? value : moved(value, place, NAMED.includes(name))];
    }),
  );
}

function held(schema: object): object {
  return { type: 'json_schema', json_schema: { name: 'call', schema } };
}
