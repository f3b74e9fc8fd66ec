// The process that renders a checkpoint's chat template: Jinja2 itself, in a Python of WebAssembly. It
// may run out of time or memory: then it is ended and started again, without effect on other requests. It has no
// part of the server's environment, and what runs in it sees no file, no network and no JavaScript.
import { setFlagsFromString } from 'node:v8';
import { startRendering } from './python.ts';

/** What it gets: the template first, then one rendering after the other. */
export type TemplateRequest =
  | { source: string }
  /** JSON texts: what the template is given, and the request that this is from where it matters. */
  | { context: string; body?: string };

/** What it answers. */
export type TemplateAnswer =
  /** It has started, and waits for the template. */
  | { kind: 'started' }
  | { kind: 'ready' }
  | { kind: 'text'; text: string }
  /** The template refuses these messages by itself (no line), or cannot be read or run. */
  | { kind: 'refused'; reason: string; line: number | null }
  | { kind: 'long'; length: number }
  | { kind: 'memory' }
  /** It called itself without end, or what it was given nests too deep: this process is of no more use. */
  | { kind: 'deep' };

/** What Node has and its types lack. */
interface WasmMemory {
  buffer: ArrayBuffer;
  grow(pages: number): number;
}
declare const WebAssembly: { Memory: { prototype: WasmMemory } };

/** End this process rather than take more: of Python's memory nothing ever comes back. */
function limitMemory(mebibytes: number): void {
  const { prototype } = WebAssembly.Memory;
  const { grow } = prototype;
  prototype.grow = function (this: WasmMemory, pages: number): number {
    if (this.buffer.byteLength + pages * 65_536 > mebibytes * 2 ** 20) process.exit(1);
    return grow.call(this, pages);
  };
}

/**
 * Compile Python's WebAssembly once and quickly. To optimise what becomes hot takes a third of a process's start,
 * and makes the rendering of a long conversation no faster: most of its time is not in WebAssembly.
 */
function compileQuickly(): void {
  const flags = ['--no-wasm-tier-up', '--no-wasm-dynamic-tiering', '--wasm-lazy-validation'];
  for (const flag of flags) setFlagsFromString(flag);
}

const [mebibytes, characters] = process.argv.slice(2).map(Number) as [number, number];
limitMemory(mebibytes);
compileQuickly();
const rendering = await startRendering(characters);

function answer(request: TemplateRequest): TemplateAnswer {
  try {
    const text =
      'source' in request
        ? rendering.load(request.source)
        : rendering.render(request.context, request.body);
    return JSON.parse(text) as TemplateAnswer;
  } catch {
    // What is no error of Python's: the stack of WebAssembly was too small for it.
    return { kind: 'deep' };
  }
}

process.on('message', (request: TemplateRequest) => {
  process.send?.(answer(request));
});
// The server is gone.
process.on('disconnect', () => process.exit(0));
process.send?.({ kind: 'started' } satisfies TemplateAnswer);
