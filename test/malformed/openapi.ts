// docs/openapi.json as tests read it.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { findPython } from '../../src/bridge/index.ts';
import { packageRoot } from '../../src/paths.ts';

/** As much of JSON Schema as the file uses. */
export interface Schema {
  $ref?: string;
  type?: string | string[];
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  oneOf?: Schema[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  propertyNames?: Schema;
  items?: Schema | false;
  prefixItems?: Schema[];
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
}

interface Operation {
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses: Record<string, { content?: Record<string, { schema: Schema }> }>;
}

export interface OpenApi {
  openapi: string;
  paths: Record<string, Partial<Record<'get' | 'post' | 'delete', Operation>>>;
  components: { schemas: Record<string, Schema> };
}

export function readOpenApi(): OpenApi {
  return JSON.parse(readFileSync(path.join(packageRoot, 'docs', 'openapi.json'), 'utf8'));
}

export interface Sample {
  /** Name of a schema in the file. */
  schema: string;
  value: unknown;
}

/** What does not fit its schema, as `CompletionChunk: choices[0]: ...`; judged by Python's jsonschema. */
export async function problems(samples: readonly Sample[]): Promise<string[]> {
  const { executable } = await findPython({ modules: ['jsonschema'] });
  const script = path.join(packageRoot, 'test', 'python', 'check_openapi.py');
  const printed = execFileSync(
    executable,
    [script, path.join(packageRoot, 'docs', 'openapi.json')],
    {
      input: JSON.stringify(samples),
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  return JSON.parse(printed);
}
