// quickjs-ng as WebAssembly: one instance of the engine, with limits that the code inside cannot reach.
//
// The bytes are those of `@jitl/quickjs-ng-wasmfile-release-sync` 0.32.0 (quickjs-ng 0.12.1), known by
// their SHA-256. Python runs the very same bytes (python/lockstep/contract/quickjs.py, the twin of this file), so
// there is one engine and not two that might differ. The package's own loader is not used: it is
// asynchronous and shares one memory among all instances.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

/** SHA-256 of the engine's WebAssembly. */
export const engineSha256 = 'b56fe5094b8751c47b8c32fb5ed4d75afe2dbb43412d3d983ac5d1156af456da';
/** What `doctor` and the tests call the engine. */
export const engineName = 'quickjs-ng 0.12.1';

/** Objects of the language; no Date, Proxy, Promise, WeakRef. Flags of QTS_NewContext. */
const INTRINSICS = 1 | 4 | 16 | 32 | 64 | 256 | 512; // base, eval, RegExp and its compiler, JSON, Map, typed arrays
/** Stack of the interpreted code, bytes; WebAssembly has 5 MiB. */
const STACK = 128 << 10;
const PAGE = 1 << 16;
/** Upper half of a value that stands for what was thrown (JS_TAG_EXCEPTION of these bytes). */
const EXCEPTION = 6;
/** Memory of the engine before any code runs, bytes: what the module asks for at the least. */
const OWN_MEMORY = 16 << 20;

/** Names of the functions in the module, as emscripten shortened them. */
interface Exports {
  /** Constructors of the module. */
  v(): void;
  /** malloc */
  w(size: number): number;
  /** QTS_RuntimeSetMemoryLimit */
  z(runtime: number, bytes: number): void;
  /** QTS_RuntimeSetMaxStackSize */
  E(runtime: number, bytes: number): void;
  /** QTS_GetUndefined */
  F(): number;
  /** QTS_NewRuntime */
  L(): number;
  /** free */
  N(pointer: number): void;
  /** QTS_NewContext */
  O(runtime: number, intrinsics: number): number;
  /** QTS_FreeValuePointer */
  Q(context: number, value: number): void;
  /** QTS_FreeCString */
  T(context: number, text: number): void;
  /** QTS_NewArrayBuffer */
  Y(context: number, buffer: number, length: number): number;
  /** QTS_NewString */
  $(context: number, text: number): number;
  /** QTS_GetString */
  aa(context: number, value: number): number;
  /** QTS_Call */
  na(context: number, fn: number, self: number, count: number, values: number): number;
  /** QTS_ResolveException */
  oa(context: number, value: number): number;
  /** QTS_Eval */
  qa(
    context: number,
    code: number,
    length: number,
    file: number,
    detect: number,
    flags: number,
  ): number;
  /** QTS_RuntimeEnableInterruptHandler */
  Ga(runtime: number): void;
}

/** The part of WebAssembly that is used; Node's types leave it to the browser's. */
interface WebAssemblyApi {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: unknown };
  Memory: new (limits: { initial: number; maximum: number }) => Memory;
}
interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
const wasm = (globalThis as unknown as { WebAssembly: WebAssemblyApi }).WebAssembly;

let compiled: object | undefined;

/**
 * Compile the engine, once.
 *
 * @throws EngineError (`load`) where the installed package has other bytes
 */
export function loadEngine(): object {
  if (compiled !== undefined) return compiled;
  const file = fileURLToPath(import.meta.resolve('@jitl/quickjs-ng-wasmfile-release-sync/wasm'));
  const bytes = readFileSync(file);
  if (createHash('sha256').update(bytes).digest('hex') !== engineSha256) {
    throw new EngineError('load', `expected the engine ${engineName}, got other bytes in ${file}`);
  }
  compiled = new wasm.Module(bytes);
  return compiled;
}

/**
 * A failure of the engine itself.
 *
 * `threw`: the code threw what `message` says; the engine continues. All others end it: `interrupted` by
 * the time limit, `exhausted` (no memory is left for an answer), `trapped` (its stack is used up, or it
 * aborted), `load` before any code ran.
 */
export class EngineError extends Error {
  readonly kind: 'threw' | 'interrupted' | 'exhausted' | 'trapped' | 'load';
  constructor(kind: EngineError['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Decides, now and then while code runs, whether it must stop. */
export type Interrupt = () => boolean;

/** A value inside the engine. */
export type Value = number & { readonly value: unique symbol };

/**
 * The memory of an engine at rest. Another engine that starts from it continues where that one was: all of
 * an engine's state is in its memory, for its one global is the stack pointer, which is back at its first
 * value whenever no code runs, and its table never changes.
 */
export interface Image {
  readonly context: number;
  /** Size of the memory, in pages. */
  readonly pages: number;
  /** Pages that hold anything but zeros, by number. */
  readonly filled: ReadonlyMap<number, Uint8Array>;
}

// V8's own time limit reaches into WebAssembly, where the engine's interrupts are not asked: one
// built-in function can run for hours. It limits scripts of a context, so the engine is called by one.
const outside = { run: () => {} };
const realm = vm.createContext(outside);
const script = new vm.Script('run()');

/** One engine: memory, runtime and context of its own. */
export class QuickJs {
  readonly #exports: Exports;
  readonly #memory: Memory;
  readonly #context: number;
  #interrupt: Interrupt = () => false;
  #interrupted = false;
  /** Within `together`. */
  #shares = false;
  #ended: EngineError | undefined;

  /**
   * @param megabytes memory that code may take, MiB
   * @param image of an engine with the same limit, to start from
   */
  constructor(megabytes: number, image?: Image) {
    const pages = Math.ceil((OWN_MEMORY + megabytes * (1 << 20)) / PAGE);
    // The module states 2 GiB at most; this is the wall that no code inside can move.
    this.#memory = new wasm.Memory({ initial: image?.pages ?? OWN_MEMORY / PAGE, maximum: pages });
    const imports = { a: { ...this.#imports(), a: this.#memory } };
    const instance = new wasm.Instance(loadEngine(), imports);
    this.#exports = instance.exports as unknown as Exports;
    if (image === undefined) {
      this.#context = this.#begin(megabytes);
    } else {
      const bytes = new Uint8Array(this.#memory.buffer);
      for (const [page, content] of image.filled) bytes.set(content, page * PAGE);
      this.#context = image.context;
    }
  }

  #begin(megabytes: number): number {
    this.#exports.v();
    const runtime = this.#exports.L();
    this.#exports.z(runtime, megabytes << 20);
    this.#exports.E(runtime, STACK);
    this.#exports.Ga(runtime);
    return this.#exports.O(runtime, INTRINSICS);
  }

  /** What another engine can start from. Values of this one are valid there. */
  image(): Image {
    const memory = Buffer.from(this.#memory.buffer);
    const pages = memory.length / PAGE;
    const zeros = Buffer.alloc(PAGE);
    const filled = new Map<number, Uint8Array>();
    for (let page = 0; page < pages; page++) {
      const content = memory.subarray(page * PAGE, (page + 1) * PAGE);
      if (!content.equals(zeros)) filled.set(page, Uint8Array.from(content));
    }
    return { context: this.#context, pages, filled };
  }

  /** Whether the engine can run no more. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /** An ArrayBuffer of `bytes`, as a value, and its offset in the memory. */
  buffer(bytes: number): { value: Value; offset: number } {
    const offset = this.#exports.w(bytes);
    return { value: this.#exports.Y(this.#context, offset, bytes) as Value, offset };
  }

  /** The memory as 32-bit integers. It may move whenever code has run. */
  cells(offset: number, length: number): Int32Array {
    return new Int32Array(this.#memory.buffer, offset, length);
  }

  /** A string, as a value. @throws EngineError (`exhausted`) */
  text(text: string): Value {
    const pointer = this.#copied(text).pointer;
    const value = this.#exports.$(this.#context, pointer);
    this.#exports.N(pointer);
    if (this.#failed(value)) throw this.#exhausted();
    return value as Value;
  }

  /**
   * Run a script; its value.
   *
   * @param milliseconds time after which V8 stops it, whatever it does
   * @throws EngineError
   */
  evaluate(source: string, file: string, interrupt: Interrupt, milliseconds: number): Value {
    const code = this.#copied(source);
    const name = this.#copied(file);
    try {
      return this.#guarded(interrupt, milliseconds, () =>
        this.#exports.qa(this.#context, code.pointer, code.length, name.pointer, 0, 0),
      );
    } finally {
      if (!this.ended) {
        this.#exports.N(code.pointer);
        this.#exports.N(name.pointer);
      }
    }
  }

  /**
   * Call a function that answers its own errors; its value as text. The arguments are freed.
   *
   * @throws EngineError (`exhausted`, too, where the function throws: nothing was left for its `catch`)
   */
  call(fn: Value, given: readonly Value[], interrupt: Interrupt, milliseconds: number): string {
    const values = this.#exports.w(Math.max(4, 4 * given.length));
    if (values === 0) throw this.#exhausted();
    this.cells(values, given.length).set(given);
    let result: Value;
    try {
      result = this.#guarded(interrupt, milliseconds, () =>
        this.#exports.na(this.#context, fn, this.#exports.F(), given.length, values),
      );
    } catch (error) {
      throw (error as EngineError).kind === 'threw' ? this.#exhausted() : error;
    }
    for (const value of given) this.#exports.Q(this.#context, value);
    this.#exports.N(values);
    const text = this.#read(result);
    if (text === null) throw this.#exhausted();
    return text;
  }

  /**
   * Calls under one time limit of V8's, which costs a thread for each that is set.
   *
   * @param milliseconds time after which V8 stops the whole
   * @param run calls this engine; what it throws is thrown here
   * @throws EngineError (`interrupted`)
   */
  together(milliseconds: number, run: () => void): void {
    let failure: { error: unknown } | undefined;
    this.#shares = true;
    try {
      this.#limited(milliseconds, () => {
        try {
          run();
        } catch (error) {
          failure = { error };
        }
      });
    } finally {
      this.#shares = false;
    }
    if (failure !== undefined) throw failure.error;
  }

  #guarded(interrupt: Interrupt, milliseconds: number, run: () => number): Value {
    if (this.#ended !== undefined) throw this.#ended;
    this.#interrupt = interrupt;
    this.#interrupted = false;
    let result = 0;
    let thrown: string | undefined;
    const checked = () => {
      result = run();
      if (result === 0 || !this.#failed(result)) return;
      const exception = this.#exports.oa(this.#context, result);
      if (exception === 0) {
        result = 0;
        return;
      }
      this.#exports.Q(this.#context, result);
      // To say what was thrown may run code as well.
      thrown = this.#read(exception as Value) ?? '';
    };
    this.#limited(this.#shares ? null : milliseconds, checked);
    if (this.#interrupted) throw this.#end('interrupted', 'interrupted');
    if (result === 0) throw this.#exhausted();
    if (thrown !== undefined) throw new EngineError('threw', thrown);
    return result as Value;
  }

  /** @param milliseconds null: a limit holds already */
  #limited(milliseconds: number | null, run: () => void): void {
    try {
      outside.run = run;
      if (milliseconds === null) run();
      else script.runInContext(realm, { timeout: milliseconds });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const timedOut = code === 'ERR_SCRIPT_EXECUTION_TIMEOUT';
      throw this.#end(timedOut ? 'interrupted' : 'trapped', message);
    }
  }

  #end(kind: EngineError['kind'], message: string): EngineError {
    this.#ended = new EngineError(kind, message);
    return this.#ended;
  }

  /** Whether a value is none: something was thrown, or no memory was left to hold it. */
  #failed(value: number): boolean {
    return value === 0 || this.cells(value + 4, 1)[0] === EXCEPTION;
  }

  #exhausted(): EngineError {
    return this.#end('exhausted', 'no memory is left for an answer');
  }

  /** A value's text, null where it gives none: its `toString` throws, or no memory is left. The value is freed. */
  #read(value: Value): string | null {
    const pointer = this.#exports.aa(this.#context, value);
    const bytes = new Uint8Array(this.#memory.buffer);
    const text =
      pointer === 0
        ? null
        : Buffer.from(bytes.subarray(pointer, bytes.indexOf(0, pointer))).toString('utf8');
    if (pointer !== 0) this.#exports.T(this.#context, pointer);
    this.#exports.Q(this.#context, value);
    return text;
  }

  #copied(text: string): { pointer: number; length: number } {
    const bytes = Buffer.from(`${text}\0`, 'utf8');
    const pointer = this.#exports.w(bytes.length);
    if (pointer === 0) throw this.#exhausted();
    new Uint8Array(this.#memory.buffer).set(bytes, pointer);
    return { pointer, length: bytes.length - 1 };
  }

  /** What the module asks of the outside: memory, and nothing else that a policy could see. */
  #imports(): Record<string, (...given: never[]) => unknown> {
    const abort = (): never => {
      throw new Error('the engine aborted');
    };
    return {
      b: abort, // __assert_fail
      c: () => 8, // fd_write: EBADF
      d: () => 52, // fd_close: ENOSYS
      e: () => 0, // environ_get
      f: (count: number, size: number) => {
        this.cells(count, 1)[0] = 0;
        this.cells(size, 1)[0] = 0;
        return 0;
      }, // environ_sizes_get
      g: () => 0, // normalize a module's name: there are no modules
      h: () => 0, // load a module
      i: () => {
        this.#interrupted ||= this.#interrupt();
        return this.#interrupted ? 1 : 0;
      },
      j: () => 0, // setitimer
      k: (bytes: number) => this.#grow(bytes),
      l: () => {}, // keepalive
      m: (_seconds: bigint, tm: number) => {
        new Uint8Array(this.#memory.buffer).fill(0, tm, tm + 44);
      }, // localtime
      n: () => {}, // tzset
      o: () => 70, // fd_seek
      p: () => 0, // Date.now
      q: (_id: number, _precision: bigint, time: number) => {
        this.cells(time, 2).fill(0);
        return 0;
      }, // clock_time_get
      r: abort,
      s: abort, // proc_exit
      t: () => 0, // call a host function: there are none
      u: () => {}, // free a host reference
    } as Record<string, (...given: never[]) => unknown>;
  }

  #grow(bytes: number): number {
    const missing = Math.ceil((bytes - this.#memory.buffer.byteLength) / PAGE);
    try {
      if (missing > 0) this.#memory.grow(missing);
      return 1;
    } catch {
      return 0;
    }
  }
}
