// The text of a new lockstep.config.ts.
import type { ModelInfo } from '../../contract/index.ts';
import type { Format } from './data.ts';

export interface ConfigInputs {
  /** As they stand in the config: relative to it. */
  readonly model: string;
  readonly out: string;
  readonly train: readonly string[];
  readonly format: Format;
  /** Documents in what was looked at. */
  readonly documents: number;
  readonly shape: Pick<ModelInfo, 'layers' | 'kvHeads'>;
  readonly minutes: number;
}

export function configText(inputs: ConfigInputs): string {
  const { model, out, train, format, shape, minutes } = inputs;
  const chats = format === 'messages';
  const share = heldOutShare(inputs.documents);
  const policy = policyFor(format);
  const imports = [
    'defineConfig',
    'sentences',
    ...(chats ? ['after', 'anyOf', 'turns'] : []),
  ].sort();
  const quoted = (text: string): string =>
    `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = [
    `// ${subject(format)}. Every option: docs/config.md of Lockstep.`,
    `import { ${imports.join(', ')} } from 'lockstep';`,
    '',
    'export default defineConfig({',
    `  model: ${quoted(model)},`,
    '  // The trained checkpoint is written here.',
    `  out: ${quoted(out)},`,
    ...(chats
      ? [
          '  // A question chooses what its answer sees; long messages are cut where a sentence ends.',
        ]
      : ['  // A segment may end where a sentence ends.']),
    `  policy: ${policy},`,
    chats ? '  segment: { max: 512 },' : '  segment: { min: 256, max: 512 },',
    "  carry: { size: 128, sinks: 4, heads: 'all' },",
    '  // Layers and KV heads that look far back. `lockstep profile` measures which are best for a model.',
    `  retrieval: { size: 256, recipe: 'blocks', window: 16, layers: [${layersOf(shape.layers).join(', ')}] },`,
    `  heads: { long: [${shape.kvHeads - 1}] },`,
    '  data: {',
    `    train: [${train.map(quoted).join(', ')}],`,
    ...(share === null
      ? []
      : [
          `    // This share of the documents is scored and never trained on.`,
          `    validation: ${share},`,
        ]),
    ...(format === 'text'
      ? [
          '    // Also train on recalling facts from earlier segments (docs/data.md, "Recall documents"):',
          '    // recall: { share: 0.2 },',
        ]
      : []),
    '  },',
    '  training: {',
    `    minutes: ${minutes},`,
    '    sequence: 2048,',
    '    learningRate: 1e-3,',
    '    warmup: 0.1,',
    '    // Adapters; without `lora` every weight is trained, with a learning rate of about 1e-5.',
    "    lora: { rank: 16, alpha: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },",
    '  },',
    '});',
  ];
  return `${lines.join('\n')}\n`;
}

/** As it stands in the config. */
export function policyFor(format: Format): string {
  return format === 'messages' ? 'anyOf(after(sentences(), 384), turns())' : 'sentences()';
}

function subject(format: Format): string {
  switch (format) {
    case 'messages':
      return 'Conversations: the loss counts on the answers alone';
    case 'prompt-completion':
      return 'Prompts and completions: the loss counts on the completions alone';
    case 'text':
      return 'Plain texts: every token counts';
    default:
      return 'What rows hold is found when training begins';
  }
}

/** Two layers, at a third and at two thirds. */
function layersOf(layers: number): number[] {
  return [...new Set([Math.floor(layers / 3), Math.floor((2 * layers) / 3)])];
}

/** None where a share by chance could hold no document. */
function heldOutShare(documents: number): number | null {
  if (documents >= 500) return 0.02;
  return documents >= 100 ? 0.1 : null;
}
