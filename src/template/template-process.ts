// The process that renders a checkpoint's chat template. It may run out of time or memory: it is ended
// and started again then, and nobody else notices. It has no part of the server's environment.
import { Template } from '@huggingface/jinja';

/** What it is told: the template at first, then one rendering after the other. */
export type TemplateRequest = { source: string; longest: number } | { context: object };

/** What it answers. */
export type TemplateAnswer =
  | { kind: 'ready' }
  | { kind: 'text'; text: string }
  /** The template refuses these messages by itself. */
  | { kind: 'refused'; reason: string }
  | { kind: 'long'; length: number };

let template: Template | undefined;
let longest = 0;

function answer(request: TemplateRequest): TemplateAnswer {
  try {
    if ('source' in request) {
      longest = request.longest;
      template = new Template(request.source);
      return { kind: 'ready' };
    }
    const text = (template as Template).render(request.context as Record<string, unknown>);
    return text.length > longest ? { kind: 'long', length: text.length } : { kind: 'text', text };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return { kind: 'refused', reason: reason.slice(0, 1000) };
  }
}

process.on('message', (request: TemplateRequest) => {
  process.send?.(answer(request));
});
// The server is gone.
process.on('disconnect', () => process.exit(0));
