// The rotation of a config.json: `rope_parameters` of transformers 5, or `rope_scaling` and `rope_theta`.

import { show } from '../json-text.ts';
import type { Rope } from './schema-model.ts';
import { type Config, type Fields, unsupported } from './shape-fields.ts';

/** RoPE scalings whose angles do not depend on the length (SEMANTICS.md 3). */
const fixedTypes = ['default', 'linear', 'llama3', 'yarn'] as const;

/**
 * @param length the family's max_position_embeddings where config.json has none
 * @throws LS_MODEL_UNSUPPORTED for what depends on the length, differs by layer or turns a part of a
 *   head; LS_MODEL_CONFIG for a number that is missing or none
 */
export function ropeOf(fields: Fields, length: number): Rope {
  const { config } = fields;
  const [name, given] = chosen(fields);
  const type = 'rope_type' in given ? given['rope_type'] : (given['type'] ?? 'default');
  if (!fixedTypes.includes(type as never)) {
    throw unsupported(
      `expected a RoPE scaling that does not depend on the length (${fixedTypes.join(', ')}), got ${show(type)}`,
      'This model does not fit: use one with a fixed RoPE scaling, such as the one from before its context was extended.',
      `${name}.rope_type`,
    );
  }
  refuseParts(given, name);
  const number = (field: string): number => fields.number(given[field], `${name}.${field}`);
  const theta =
    'rope_theta' in given
      ? number('rope_theta')
      : fields.number('rope_theta' in config ? config['rope_theta'] : 10_000, 'rope_theta');
  if (type === 'default') return { type, theta };
  if (type === 'linear') return { type, theta, factor: number('factor') };
  const originalLength = originalOf(fields, given, name, length);
  if (type === 'llama3') {
    return {
      type,
      theta,
      factor: number('factor'),
      originalLength,
      lowFrequencyFactor: number('low_freq_factor'),
      highFrequencyFactor: number('high_freq_factor'),
    };
  }
  return yarn(fields, given, name, { theta, originalLength, length });
}

function yarn(
  fields: Fields,
  given: Config,
  name: string,
  { theta, originalLength, length }: { theta: number; originalLength: number; length: number },
): Rope {
  const optional = (field: string): number | null =>
    given[field] == null || given[field] === 0
      ? null
      : fields.number(given[field], `${name}.${field}`);
  const attentionFactor =
    given['attention_factor'] == null
      ? null
      : fields.number(given['attention_factor'], `${name}.attention_factor`);
  const [mscale, mscaleAllDim] = [optional('mscale'), optional('mscale_all_dim')];
  // transformers takes the two together, and only where no factor is given.
  const scaled = attentionFactor === null && mscale !== null && mscaleAllDim !== null;
  const truncate = 'truncate' in given ? given['truncate'] : true;
  if (typeof truncate !== 'boolean') {
    throw fields.bad(`true or false for ${name}.truncate`, show(truncate), `${name}.truncate`);
  }
  const factor =
    given['factor'] === null
      ? lengthOf(fields, length) / originalLength
      : fields.number(given['factor'], `${name}.factor`);
  return {
    type: 'yarn',
    theta,
    factor,
    originalLength,
    attentionFactor,
    mscale: scaled ? mscale : null,
    mscaleAllDim: scaled ? mscaleAllDim : null,
    betaFast: optional('beta_fast') ?? 32,
    betaSlow: optional('beta_slow') ?? 1,
    truncate,
  };
}

/** The object that transformers reads: rope_scaling wherever it says anything. */
function chosen(fields: Fields): [name: string, given: Config] {
  for (const name of ['rope_scaling', 'rope_parameters']) {
    const value = fields.config[name];
    if (value === undefined || value === null) continue;
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw fields.bad(`an object for ${name}`, show(value), name);
    }
    if (Object.keys(value).length > 0) return [name, value as Config];
  }
  return ['rope_parameters', {}];
}

function refuseParts(given: Config, name: string): void {
  for (const [field, value] of Object.entries(given)) {
    const nested = value !== null && typeof value === 'object';
    const partial = field === 'partial_rotary_factor' && value !== 1;
    if (!nested && !partial) continue;
    throw unsupported(
      `expected one rotation of whole heads in every layer, got ${show(value)} for ${name}.${field}`,
      'Use a checkpoint with the same RoPE settings in all layers.',
      `${name}.${field}`,
    );
  }
}

function originalOf(fields: Fields, given: Config, name: string, length: number): number {
  const field = 'original_max_position_embeddings';
  // transformers lets the one outside win once a rotation is computed.
  if (field in fields.config) return fields.number(fields.config[field], field);
  if (field in given) return fields.number(given[field], `${name}.${field}`);
  return lengthOf(fields, length);
}

function lengthOf(fields: Fields, length: number): number {
  return fields.integer('max_position_embeddings', length);
}
